"""What the ledger lists of the objects that are not in the lake."""

from collections.abc import Iterator

from lib.contracts import minimal_contract
from lib.memory_store import MemoryStore

from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed
from liftloop.lake.ledger import Entry, blocked, write_entry
from liftloop.storage.keys import LEDGER, landing_prefix
from liftloop.storage.store import Listed, ObjectRef


class ListsOnce(MemoryStore):
    """Notes every prefix that is listed."""

    def list(self, prefix: str) -> Iterator[Listed]:
        vars(self).setdefault("listed", []).append(prefix)
        return super().list(prefix)


def test_held_entries_are_listed_once_and_only_for_what_is_still_landed() -> None:
    store, contract = ListsOnce(), minimal_contract()
    store.put(f"{landing_prefix('shop')}a.parquet", b"rows")
    (object_id,) = Landed.read(store, contract).by_id
    for name in (object_id, "replaced"):
        entry = Entry(object_id=name, landed=ObjectRef("a", "0" * 64, 1), status="held")
        write_entry(store, "shop", entry, is_held=False)
    vars(store)["listed"].clear()
    assert [entry.object_id for entry in blocked(Lake(store, contract))] == [object_id]
    assert [prefix for prefix in vars(store)["listed"] if prefix.startswith(LEDGER)] == ["ledger/shop/held/"]
