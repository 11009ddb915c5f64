"""Whether a training is due: enough impressions for the contract's split, and enough since the newest model."""

from dataclasses import dataclass

from liftloop.contract.contract import Contract
from liftloop.registry.registry import Registry
from liftloop.storage.store import Store
from liftloop.training.frame import open_frame
from liftloop.training.frame_builder import FrameError, measure_parts


@dataclass(frozen=True)
class TrainingNeed:
    """Whether a training is due, and the reason why it is or is not."""

    is_due: bool
    reason: str


def training_need(store: Store, contract: Contract) -> TrainingNeed:
    """Whether a training on the lake as it is now is due by the contract's `retraining`."""
    try:
        matured = sum(part.rows for part in measure_parts(store, contract).values())
    except FrameError as lacking:
        return TrainingNeed(is_due=False, reason=str(lacking))
    version = Registry(store, contract.source).newest()
    if version is None:
        return TrainingNeed(is_due=True, reason="there is no model yet")
    frame = open_frame(store, contract.source, version.frame_fingerprint)
    known = sum(part.rows for part in frame.index.parts.values()) if frame else 0
    share = contract.retraining.new_impressions_share
    news = f"{matured - known:,} impressions have matured since {version.version} was trained on {known:,}"
    is_due = matured != known and matured - known >= share * known
    return TrainingNeed(is_due, news if is_due else f"{news}, fewer than the contract's share of {share:.0%}")
