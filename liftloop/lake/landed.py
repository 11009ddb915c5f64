"""The landed objects of a source, and an id for each that changes with everything that shapes its rows."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from liftloop.contract.contract import Contract
from liftloop.contract.suite import reading_fingerprint
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import Listed, Store

QUARANTINED_ROWS = "rows.parquet"  # of one object, in quarantine beside a copy of the file if that is held
_FILE_CHARACTERS, _VERSION_CHARACTERS = 16, 8


@dataclass(frozen=True, eq=False)
class Landed:
    """A snapshot of what has landed; a corrected contract, rule or reference file gives its objects new ids."""

    contract: Contract
    listed: dict[str, Listed]

    @classmethod
    def read(cls, store: Store, contract: Contract) -> "Landed":
        return cls(contract, {item.key: item for item in store.list(landing_prefix(contract.source))})

    @cached_property
    def by_id(self) -> dict[str, Listed]:
        """The objects that hold rows, oldest first, by id."""
        items = sorted(self.listed.values(), key=lambda item: (item.modified, item.key))
        return {self.object_id(item): item for item in items if not is_reference_or_marker(self.contract, item.key)}

    def object_id(self, item: Listed) -> str:
        """A short id of an object as it is read now; the ids of all its versions have the same beginning."""
        references = [self.listed[key].etag for key in self.reference_keys(item.key).values() if key in self.listed]
        version = fingerprint_of(item.etag, self._reading, *references)
        return fingerprint_of(item.key)[:_FILE_CHARACTERS] + version[:_VERSION_CHARACTERS]

    def is_of_impressions(self, key: str) -> bool:
        """Whether the contract reads a landed object's rows as impressions."""
        return not is_reference_or_marker(self.contract, key) and self.outcome_files_of(key) is None

    def outcome_files_of(self, key: str) -> str | None:
        """The name of the outcome files that a landed object belongs to; None for impressions."""
        return self.contract.outcome_files_of(key.removeprefix(landing_prefix(self.contract.source)))

    def reference_keys(self, key: str) -> dict[str, str]:
        """The reference files, by name, that a landed object is joined with."""
        prefix = landing_prefix(self.contract.source)
        parts = None if self.outcome_files_of(key) else self.contract.landing.path_parts(key.removeprefix(prefix))
        if parts is None:
            return {}
        return {name: prefix + lookup.path.format_map(parts) for name, lookup in self.contract.lookups.items()}

    def missing_references(self, item: Listed) -> set[str]:
        """The keys of the reference files that an object waits for."""
        return {key for key in self.reference_keys(item.key).values() if key not in self.listed}

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each landed file in the order of landing, by the beginning of its ids."""
        return {landed_file_of(object_id): place for place, object_id in enumerate(self.by_id)}

    @cached_property
    def _reading(self) -> str:
        return reading_fingerprint(self.contract)


def landed_file_of(object_id: str) -> str:
    """The beginning that the ids of all versions of a landed file share."""
    return object_id[:_FILE_CHARACTERS]


def object_id_in(key: str) -> str:
    """The id of the landed object that a file of the lake, or rows in quarantine, come from."""
    path = PurePath(key)
    return path.parent.name if path.name == QUARANTINED_ROWS else path.stem


def is_reference_or_marker(contract: Contract, key: str) -> bool:
    """Whether a landed object is a reference file, a folder marker of a console, or ignored by the contract."""
    relative = key.removeprefix(landing_prefix(contract.source))
    is_reference = any(lookup.path_parts(relative) is not None for lookup in contract.lookups.values())
    return is_reference or key.endswith("/") or contract.landing.is_ignored(relative)
