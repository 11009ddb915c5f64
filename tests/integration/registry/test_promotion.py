"""Registry on a real object store: versions, promotions against each other, and the audit trail."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import numpy as np
import pandas as pd
import pytest
import xgboost

from liftloop.model.earnings import Earnings
from liftloop.model.encoder import Encoder
from liftloop.model.model import Model, ModelSpec
from liftloop.registry.load import load_model, register
from liftloop.registry.promotion import PromotionConflict, promote, read_audit
from liftloop.registry.registry import Registry
from liftloop.registry.versions import ModelVersion, Pointer, RegistryError
from liftloop.stats.calibration import PlattCalibration
from liftloop.storage.hashing import sha256_of
from liftloop.storage.keys import audit_key, champion_key
from liftloop.storage.store import Store
from liftloop.training.frame import FrameIndex

CONTENDERS = 8
ROUNDS = 15
ROWS = pd.DataFrame({"hour": np.arange(24.0)})


@pytest.fixture
def enter(store: Store, source: str) -> Callable[[int], ModelVersion]:
    """Puts a model of its own for each number on record."""

    def enter(number: int) -> ModelVersion:
        frame = FrameIndex(source=source, fingerprint=f"frame {number}", inputs=(), parts={})
        model = make_model(source, number)
        return register(
            Registry(store, source),
            model,
            training_fingerprint=f"{number}",
            frame_fingerprint=frame.fingerprint,
            frame=frame.partitions,
            trained_until=datetime(2026, 3, 1, tzinfo=UTC),
            metrics={},
        )

    return enter


def make_model(source: str, number: int) -> Model:
    encoder = Encoder(categories={}, numbers=("hour",))
    matrix = xgboost.DMatrix(encoder.encode(ROWS), ROWS["hour"] > 11)
    spec = ModelSpec(
        reward="click",
        earnings=Earnings(objective="clicks", reward="click"),
        feature_service="simulated_click_v1",
        encoder=encoder,
        calibration=PlattCalibration(slope=1, intercept=number / 100),
        contract_sha256=sha256_of(source.encode()),
    )
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 2}, matrix, 3)
    booster.set_attr(made_for=f"{source} {number}")
    return Model(booster, spec)


def etag_of(pointer: Pointer | None) -> str | None:
    return pointer.etag if pointer else None


def test_a_registered_model_is_found_again(store: Store, source: str, enter: Callable[[int], ModelVersion]) -> None:
    second, first = enter(2), enter(1)
    assert Registry(store, source).versions() == [second, first]
    assert Registry(store, source).version(first.version) == first
    assert Registry(store, source).find_trained("1") == first
    assert Registry(store, source).find_trained("3") is None
    model = load_model(store, first)
    assert model.version == first.version
    np.testing.assert_array_equal(model.predict(ROWS), make_model(source, 1).predict(ROWS))


def test_what_is_learned_of_a_version_later_is_kept(
    store: Store, source: str, enter: Callable[[int], ModelVersion]
) -> None:
    version = enter(1)
    evidence = store.put_blob(b"{}", ".json")
    Registry(store, version.source).write(version.model_copy(update={"evidence": evidence}))
    assert Registry(store, source).version(version.version).evidence == evidence


def test_an_unknown_version_is_refused(store: Store, source: str, enter: Callable[[int], ModelVersion]) -> None:
    known = enter(1).version
    with pytest.raises(RegistryError, match=rf"no model version 'beef'; on record: \['{known}'\]"):
        promote(Registry(store, source), "beef", "hope", None)


@pytest.mark.parametrize("name", ["../champion", "", "a/b"])
def test_a_name_that_is_no_version_is_refused(store: Store, source: str, name: str) -> None:
    with pytest.raises(RegistryError, match="no model version"):
        Registry(store, source).version(name)


def test_blobs_of_another_version_are_refused(store: Store, enter: Callable[[int], ModelVersion]) -> None:
    first, second = enter(1), enter(2)
    forged = first.model_copy(update={"booster": second.booster, "spec": second.spec})
    with pytest.raises(RegistryError, match=f"{first.version} cannot be loaded: its record names other blobs"):
        load_model(store, forged)


@pytest.mark.parametrize("blob", ["booster", "spec"])
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_version_is_not_promoted(
    store: Store, source: str, enter: Callable[[int], ModelVersion], blob: str, damage: str
) -> None:
    version = enter(1)
    key = getattr(version, blob).key
    if damage == "missing":
        store.delete([key])
    else:
        store.put(key, store.get(key) + b" ")
    with pytest.raises(RegistryError, match=f"{version.version} cannot be loaded: .*{key}"):
        promote(Registry(store, source), version.version, "hope", None)
    assert Registry(store, source).champion() is None
    assert read_audit(Registry(store, source)) == []
    assert Registry(store, source).find_trained("1") is None


def test_training_anew_mends_a_lost_blob(store: Store, source: str, enter: Callable[[int], ModelVersion]) -> None:
    version = enter(1)
    store.delete([version.booster.key])
    assert enter(1).blobs == version.blobs
    promote(Registry(store, source), version.version, "mended", None)


def test_the_champion_moves_and_every_move_is_on_record(
    store: Store, source: str, enter: Callable[[int], ModelVersion]
) -> None:
    first, second = enter(1).version, enter(2).version
    assert Registry(store, source).champion() is None
    one = promote(Registry(store, source), first, "the first", None)
    two = promote(Registry(store, source), second, "better", one.etag)
    three = promote(Registry(store, source), first, "rolled back", two.etag)
    assert Registry(store, source).champion() == three
    moves = [(move.number, move.version, move.previous, move.reason) for move in (one, two, three)]
    assert moves == [(1, first, None, "the first"), (2, second, first, "better"), (3, first, second, "rolled back")]
    trail = [entry.pointer for entry in read_audit(Registry(store, source))]
    assert trail == [move.model_copy(update={"etag": None}) for move in (one, two, three)]


def test_a_late_promotion_is_told_who_won(store: Store, source: str, enter: Callable[[int], ModelVersion]) -> None:
    first, second, late = (enter(number).version for number in (1, 2, 3))
    seen = promote(Registry(store, source), first, "the first", None)
    promote(Registry(store, source), second, "better by 2 %", seen.etag)
    with pytest.raises(PromotionConflict, match=rf"{late} did not become .* {second} since .*\(better by 2 %\)"):
        promote(Registry(store, source), late, "better than the first", seen.etag)
    with pytest.raises(PromotionConflict, match=second):
        promote(Registry(store, source), late, "there is none yet", None)
    assert [entry.pointer.version for entry in read_audit(Registry(store, source))] == [first, second]


def test_of_promotions_at_once_exactly_one_wins(
    store: Store, source: str, enter: Callable[[int], ModelVersion]
) -> None:
    versions = [enter(number).version for number in range(CONTENDERS)]
    stores = [Store(store.settings) for _ in versions]
    start = Barrier(CONTENDERS)

    def contend(own: Store, version: str, expected: str | None) -> Pointer | PromotionConflict:
        start.wait()
        try:
            return promote(Registry(own, source), version, f"for {version}", expected)
        except PromotionConflict as conflict:
            return conflict

    holder = None
    with ThreadPoolExecutor(CONTENDERS) as pool:
        for _ in range(ROUNDS):
            results = list(pool.map(contend, stores, versions, [etag_of(holder)] * CONTENDERS))
            (winner,) = [result for result in results if isinstance(result, Pointer)]
            losers = [result for result in results if isinstance(result, PromotionConflict)]
            assert len(losers) == CONTENDERS - 1
            assert all(f"now is {winner.version} since" in str(loser) for loser in losers)
            assert winner.previous == (holder.version if holder else None)
            holder = Registry(store, source).champion()
            assert holder == winner
    assert [entry.pointer.number for entry in read_audit(Registry(store, source))] == list(range(1, ROUNDS + 1))


class LosesAnswers(Store):
    """Every conditional write arrives, its answer does not, and it is sent again: so it meets its own object."""

    def swap(self, key: str, body: bytes, *, expected_etag: str | None) -> str:
        super().swap(key, body, expected_etag=expected_etag)
        return super().swap(key, body, expected_etag=expected_etag)


def test_a_promotion_whose_answer_is_lost_has_still_won(
    store: Store, source: str, enter: Callable[[int], ModelVersion]
) -> None:
    version = enter(1).version
    pointer = promote(Registry(LosesAnswers(store.settings), source), version, "the first", None)
    assert pointer == Registry(store, source).champion()
    assert len(read_audit(Registry(store, source))) == 1


class DiesBeforeTheAudit(Store):
    """The process ends between the pointer and the entry of the trail."""

    def swap(self, key: str, body: bytes, *, expected_etag: str | None) -> str:
        if key.startswith("audit/"):
            raise KeyboardInterrupt
        return super().swap(key, body, expected_etag=expected_etag)


def test_a_move_that_was_not_written_down_is_written_down_by_the_next(
    store: Store, source: str, enter: Callable[[int], ModelVersion]
) -> None:
    first, second = enter(1).version, enter(2).version
    with pytest.raises(KeyboardInterrupt):
        promote(Registry(DiesBeforeTheAudit(store.settings), source), first, "the first", None)
    assert read_audit(Registry(store, source)) == []
    promote(Registry(store, source), second, "better", etag_of(Registry(store, source).champion()))
    assert [entry.pointer.version for entry in read_audit(Registry(store, source))] == [first, second]


def test_the_trail_goes_on_after_the_pointer_was_lost(
    store: Store, source: str, enter: Callable[[int], ModelVersion]
) -> None:
    version = enter(1).version
    promote(Registry(store, source), version, "the first", None)
    store.delete([champion_key(source)])
    assert promote(Registry(store, source), version, "again", None).number == 2
    assert [entry.pointer.reason for entry in read_audit(Registry(store, source))] == ["the first", "again"]


@pytest.mark.parametrize("tampering", ["edited", "removed"])
def test_tampering_with_the_trail_is_noticed(
    store: Store, source: str, enter: Callable[[int], ModelVersion], tampering: str
) -> None:
    pointer = None
    for number in (1, 2, 3):
        pointer = promote(Registry(store, source), enter(number).version, "better", etag_of(pointer))
    key = audit_key(source, 2)
    if tampering == "edited":
        store.put(key, store.get(key).replace(b"better", b"bribed"))
    else:
        store.delete([key])
    with pytest.raises(RegistryError, match=f"{audit_key(source, 3)} does not follow"):
        read_audit(Registry(store, source))
