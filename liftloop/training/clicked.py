"""The clicked impressions of a training frame, as the frame from which P(conversion | click) is learned."""

import pyarrow.compute as pc

from liftloop.contract.contract import Contract
from liftloop.storage.duckdb import connect
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import frame_index_key, frame_prefix
from liftloop.storage.runs import Step, record
from liftloop.training.frame import FrameIndex, FramePart, Part, TrainingFrame, open_frame
from liftloop.training.frame_builder import require_enough
from liftloop.training.frame_days import partitions_of, put_partitions

RULE_VERSION = "clicked 1"
_CLICKED = "SELECT * REPLACE (coalesce(conversion, 0) AS conversion) FROM part WHERE click = 1"


def clicked_frame(contract: Contract, frame: TrainingFrame) -> TrainingFrame:
    """The frame of its clicked impressions, whose reward is a conversion; built once.

    Raises:
        FrameError: a part has only clicks with a conversion, or only clicks without, or too few.
    """
    fingerprint = fingerprint_of(RULE_VERSION, frame.index.fingerprint)
    if known := open_frame(frame.store, contract.source, fingerprint):
        return known
    prefix = frame_prefix(contract.source, fingerprint)
    parts = {name: _clicked(contract, frame, name, prefix) for name in frame.index.parts}
    index = FrameIndex(source=contract.source, fingerprint=fingerprint, inputs=frame.index.partitions, parts=parts)
    index.write(frame.store, frame_index_key(contract.source, fingerprint))
    metrics = {name: {"clicks": part.rows, "conversions": part.rewards} for name, part in parts.items()}
    record(Step(name="clicked", inputs=index.inputs, outputs=index.partitions, metrics=metrics))
    return TrainingFrame(frame.store, index)


def _clicked(contract: Contract, frame: TrainingFrame, name: Part, prefix: str) -> FramePart:
    part = frame.index.parts[name]
    with connect(frame.store.settings) as connection:
        connection.read_parquet(frame.uris([name])).create_view("part")
        rows = connection.execute(_CLICKED).to_arrow_table()
    conversions = pc.sum(rows["conversion"]).as_py() or 0
    found = FramePart(start=part.start, end=part.end, rows=rows.num_rows, rewards=conversions)
    require_enough(contract.of_clicked, name, found, "clicks")
    keys = [f"{prefix}{name}-{number:03}.parquet" for number in range(partitions_of(found.rows))]
    return found.model_copy(update={"partitions": tuple(put_partitions(frame.store, keys, rows))})
