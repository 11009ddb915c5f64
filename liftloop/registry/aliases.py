"""Names for versions by what they do: `champion`, `challenger`, `previous`, wherever a version is named."""

from liftloop.registry.challenger import challenger
from liftloop.registry.registry import Registry
from liftloop.registry.rollback import previous
from liftloop.registry.versions import ModelVersion, RegistryError

ALIASES = ("champion", "challenger", "previous")


def aliases(registry: Registry) -> dict[str, str]:
    """The version behind each alias that has one now; `previous` is what a rollback would restore."""
    holder, rival = registry.champion(), challenger(registry)
    found = {
        "champion": holder.version if holder else None,
        "challenger": rival.version if rival else None,
        "previous": previous(registry),
    }
    return {alias: version for alias, version in found.items() if version is not None}


def find_version(registry: Registry, name: str) -> ModelVersion:
    """A version by its name or an alias.

    Raises:
        RegistryError: there is none.
    """
    if name not in ALIASES:
        return registry.version(name)
    known = aliases(registry)
    if name not in known:
        raise RegistryError(
            f"{registry.source} has no {name} now; `liftloop models {registry.source}` lists what there is"
        )
    return registry.version(known[name])
