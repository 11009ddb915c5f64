"""Files that a contract no longer reads as impressions: their rows leave the lake."""

from liftloop.lake.impressions import duplicates_of
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed, landed_file_of, object_id_in
from liftloop.lake.ledger import disowned, reopen
from liftloop.storage.duckdb import connect
from liftloop.storage.runs import Step, record


def remove_disowned(lake: Lake) -> int:
    """Delete the rows of landed files that are now ignored, or of another kind; returns the number of these files.

    What was a duplicate of their rows is read again. Safe to repeat.
    """
    landed = Landed.read(lake.store, lake.contract)
    items = disowned(lake, landed)
    if not items:
        return 0
    ours = {landed_file_of(landed.object_id(item)) for item in items}
    files = [item for item in lake.files if landed_file_of(object_id_in(item.key)) in ours]
    with connect(lake.store.settings) as connection:
        reopen(lake.store, lake.contract.source, duplicates_of(connection, lake, files))
    keys = [item.key for item in files]
    lake.store.delete(keys)
    lake.replace(keys, ())
    record(Step(name="remove_disowned", removed=tuple(keys), metrics={"files_removed": len(keys)}))
    return len(items)
