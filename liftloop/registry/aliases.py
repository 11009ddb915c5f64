"""Aliases of versions: `champion`, `challenger` and `previous`, allowed wherever a version is named."""

from liftloop.registry.challenger import challenger
from liftloop.registry.registry import Registry
from liftloop.registry.rollback import previous
from liftloop.registry.versions import ModelVersion, RegistryError

ALIASES = ("champion", "challenger", "previous")


def aliases(registry: Registry) -> dict[str, str]:
    """The current version of each alias that has one; `previous` is the version that a rollback would restore."""
    champion, challenge = registry.champion(), challenger(registry)
    found = {
        "champion": champion.version if champion else None,
        "challenger": challenge.version if challenge else None,
        "previous": previous(registry),
    }
    return {alias: version for alias, version in found.items() if version is not None}


def find_version(registry: Registry, name: str) -> ModelVersion:
    """A version by its name or its alias.

    Raises:
        RegistryError: there is no such version, or the alias has none now.
    """
    if name not in ALIASES:
        return registry.version(name)
    known = aliases(registry)
    if name not in known:
        raise RegistryError(
            f"{registry.source} has no {name} now; `liftloop models {registry.source}` lists the versions"
        )
    return registry.version(known[name])
