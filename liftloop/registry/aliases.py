"""Names for versions by what they do: `champion`, `challenger`, `previous`, wherever a version is named."""

from liftloop.registry.challenger import challenger
from liftloop.registry.rollback import previous
from liftloop.registry.versions import ModelVersion, RegistryError, champion, read_version
from liftloop.storage.store import Store

ALIASES = ("champion", "challenger", "previous")


def aliases(store: Store, source: str) -> dict[str, str]:
    """The version behind each alias that has one now; `previous` is what a rollback would restore."""
    holder, rival = champion(store, source), challenger(store, source)
    found = {
        "champion": holder.version if holder else None,
        "challenger": rival.version if rival else None,
        "previous": previous(store, source),
    }
    return {alias: version for alias, version in found.items() if version is not None}


def find_version(store: Store, source: str, name: str) -> ModelVersion:
    """A version by its name or an alias.

    Raises:
        RegistryError: there is none.
    """
    if name not in ALIASES:
        return read_version(store, source, name)
    known = aliases(store, source)
    if name not in known:
        raise RegistryError(f"{source} has no {name} now; `liftloop models {source}` lists what there is")
    return read_version(store, source, known[name])
