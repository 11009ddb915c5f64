"""Whether enough impressions have matured since the newest model for a retraining."""

from liftloop.contract.contract import Contract
from liftloop.lake.lake import Lake
from liftloop.registry.registry import Registry
from liftloop.storage.duckdb import connect
from liftloop.storage.store import Store
from liftloop.training.frame import open_frame


def retraining_reason(store: Store, contract: Contract) -> str | None:
    """Why a training is due by the contract's `retraining`; None: it is not.

    The first training waits until the matured impressions span more than validation and hold-out.
    """
    span_seconds, matured = _matured(store, contract)
    version = Registry(store, contract.source).newest()
    if version is None:
        held_out_seconds = (contract.split.validation + contract.split.holdout).total_seconds()
        return "there is no model yet" if span_seconds > held_out_seconds else None
    frame = open_frame(store, contract.source, version.frame_fingerprint)
    known = sum(part.rows for part in frame.index.parts.values()) if frame else 0
    limit = contract.retraining.new_impressions_share
    if matured - known < limit * known or matured == known:
        return None
    return f"{matured - known} impressions have matured since {version.version} was trained on {known}"


def _matured(store: Store, contract: Contract) -> tuple[float, int]:
    """The span of the matured impressions in seconds, and their number."""
    uris = Lake(store, contract).uris
    if not uris:
        return 0.0, 0
    with connect(store.settings) as connection:
        connection.read_parquet(uris, union_by_name=True).create_view("lake")
        row = connection.execute(_MATURED, {"maturity": contract.maturity}).fetchone()
    assert row is not None  # an aggregate always returns a row
    return row[0] or 0.0, row[1]


_MATURED = """
WITH clock AS (SELECT max(event_timestamp) - $maturity AS matured_at FROM lake)
SELECT epoch(max(event_timestamp) - min(event_timestamp)), count(*)
FROM lake WHERE event_timestamp <= (SELECT matured_at FROM clock)
"""
