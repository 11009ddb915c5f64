"""Training frames of a real lake: what goes into which part, what is used again, what is refused."""

from datetime import timedelta
from math import ceil
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from lib.feature_lake import write_lake
from lib.steps import with_step
from lib.training_lake import FIRST, land, make_contract, make_rows

from liftloop.contract.contract import Contract
from liftloop.features.definitions import feature_columns
from liftloop.features.lookup import historical_features, offline_features
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.storage.store import Store
from liftloop.training import frame_days
from liftloop.training.frame import Part, folds_of, open_frame, read_partition
from liftloop.training.frame_builder import FrameError, build_frame

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def contract() -> Contract:
    return make_contract(f"s{uuid4().hex[:8]}")


def test_every_matured_impression_is_in_just_one_part(store: Store, contract: Contract) -> None:
    rows = make_rows()
    land(store, contract, rows)
    frame, step = with_step(build_frame, store, contract)
    matured = max(row["event_timestamp"] for row in rows) - DAY
    bounds = {"training": (FIRST, FIRST + 2 * DAY), "validation": (FIRST + 2 * DAY, FIRST + 3 * DAY)}
    bounds["holdout"] = (FIRST + 3 * DAY, matured + timedelta(microseconds=1))
    for name, (since, until) in bounds.items():
        part = getattr(frame, name)
        expected = [row["impression_id"] for row in rows if since <= row["event_timestamp"] < until]
        assert part["impression_id"].tolist() == expected
        assert step.metrics[name] == {"rows": len(expected), "rewards": part["click"].sum()}
    assert step.is_reused is False
    assert set(step.outputs) == set(frame.index.partitions)
    assert {ref.key.split("/")[0] for ref in step.inputs} == {"lake", "features"}


def test_rows_carry_the_lake_and_the_features_of_their_time(store: Store, contract: Contract) -> None:
    land(store, contract, make_rows())
    holdout = build_frame(store, contract).holdout
    assert list(holdout) == [*contract.column_types, *feature_columns(contract)]
    expected = historical_features(store, contract, holdout[["user_id", "ad_id", "event_timestamp"]])
    pd.testing.assert_frame_equal(holdout[feature_columns(contract)], expected[feature_columns(contract)])
    assert holdout["ad_impressions_1d"].gt(0).mean() > 0.9


def test_rows_carry_the_features_that_had_landed_when_they_were_shown(store: Store, contract: Contract) -> None:
    contract = contract.model_copy(update={"landing_delay": 5 * HOUR})
    land(store, contract, make_rows())
    frame, step = with_step(build_frame, store, contract)
    assert str(frame.index.landing_delay) == step.metrics["landing_delay"] == "5 h (contract)"
    holdout = frame.holdout
    earlier = holdout[["user_id", "ad_id", "event_timestamp"]].assign(
        event_timestamp=holdout["event_timestamp"] - 5 * HOUR
    )
    expected = offline_features(store, contract, earlier)
    for name in feature_columns(contract):
        wait = 5 * 3600 if "_seconds_since_" in name else 0
        np.testing.assert_array_equal(holdout[name], expected[name] + wait)
    prompt = build_frame(store, contract.model_copy(update={"landing_delay": None})).index
    assert prompt.fingerprint != frame.index.fingerprint
    assert str(prompt.landing_delay) == "0 h (not measured)"


def test_partitions_are_even_and_small(store: Store, contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_days, "ROWS_PER_JOIN", 300)
    monkeypatch.setattr(frame_days, "ROWS_PER_PARTITION", 50)
    land(store, contract, make_rows())
    frame = build_frame(store, contract)
    for day in frame.index.days:
        sizes = [len(read_partition(store, ref)) for ref in day.partitions]
        assert sum(sizes) == day.rows > 300
        assert len(sizes) == 2 * ceil(day.rows / 2 / 50)
        assert max(sizes) - min(sizes) <= 3
        assert [ref.key.rsplit("/", 1)[1] for ref in day.partitions][:2] == ["000.parquet", "001.parquet"]
    assert [day.start for day in frame.index.days[1:]] == [FIRST + number * DAY for number in range(1, 4)]


def test_one_more_day_joins_no_other(store: Store, contract: Contract) -> None:
    rows = make_rows(days=7)
    newest = FIRST + 6 * DAY
    land(store, contract, [row for row in rows if row["event_timestamp"] < newest])
    first = build_frame(store, contract).index
    land(store, contract, [row for row in rows if row["event_timestamp"] >= newest])
    second, step = with_step(build_frame, store, contract)
    assert step.metrics["days_joined"] == 2  # the one that is new, and the one that was cut at its newest matured row
    assert second.index.days[:4] == first.days[:4]
    assert step.metrics["days_reused"] == 4
    assert set(step.outputs) == set(second.index.partitions)


def test_late_rows_open_the_days_that_rest_on_them_again(store: Store, contract: Contract) -> None:
    land(store, contract, make_rows(days=21, rows_per_day=150))
    late = [
        row | {"impression_id": f"late-{row['impression_id']}"} for row in make_rows(days=3, rows_per_day=9, seed=8)
    ]
    late = [row for row in late if row["event_timestamp"] >= FIRST + 2 * DAY]
    before = build_frame(store, contract).index
    write_lake(store, contract, late, "late")
    update_tiles(store, contract)
    update_feature_tables(store, contract)
    frame, step = with_step(build_frame, store, contract)
    is_same = [day == earlier for day, earlier in zip(frame.index.days, before.days, strict=True)]
    assert all(is_same[:2])
    assert not any(is_same[2:10])  # its own day, and as long as a window holds it
    assert all(is_same[19:])  # and then, until a key without news expires
    assert step.metrics["days_joined"] == is_same.count(False)
    whole = pd.concat([frame.training, frame.validation, frame.holdout], ignore_index=True)
    expected = historical_features(store, contract, whole[["user_id", "ad_id", "event_timestamp"]])
    pd.testing.assert_frame_equal(whole[feature_columns(contract)], expected[feature_columns(contract)])


def test_a_model_learns_from_a_window_of_history(store: Store, contract: Contract) -> None:
    land(store, contract, make_rows(days=8))
    everything = build_frame(store, contract).index
    training = contract.training.model_copy(update={"window": 3 * DAY})
    frame = build_frame(store, contract.model_copy(update={"training": training})).index
    assert frame.days == everything.days[2:]
    assert frame.parts["training"].start == FIRST + 2 * DAY
    assert frame.parts["holdout"] == everything.parts["holdout"]


def test_an_unchanged_lake_gives_the_frame_on_record(store: Store, contract: Contract) -> None:
    land(store, contract, make_rows())
    first = build_frame(store, contract)
    again, step = with_step(build_frame, store, contract)
    assert step.is_reused
    assert again.index == first.index
    retuned = contract.model_copy(update={"training": contract.training.model_copy(update={"trials": 9})})
    assert with_step(build_frame, store, retuned)[1].is_reused


@pytest.mark.parametrize("what", ["lake", "split"])
def test_a_change_gives_another_frame(store: Store, contract: Contract, what: str) -> None:
    land(store, contract, make_rows())
    first = build_frame(store, contract)
    if what == "lake":
        write_lake(store, contract, make_rows(days=1, rows_per_day=5, seed=8), name="late")
    else:
        split = contract.split.model_copy(update={"holdout": DAY / 2})
        contract = contract.model_copy(update={"split": split})
    other, step = with_step(build_frame, store, contract)
    assert not step.is_reused
    assert other.index.fingerprint != first.index.fingerprint


def test_an_interrupted_build_is_taken_up(store: Store, contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    land(store, contract, make_rows())
    finished = build_frame(store, contract).index
    last = finished.parts["holdout"].partitions[-1].key
    unfinished = [item.key for item in store.list(f"{last.rpartition('/')[0]}/")]
    store.delete([f"features/{contract.source}/frames/{finished.fingerprint}/frame.json", *unfinished])
    assert open_frame(store, contract.source, finished.fingerprint) is None
    joined: list[int] = []

    def counted(store: Store, contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
        joined.append(len(rows))
        return historical_features(store, contract, rows)

    monkeypatch.setattr(frame_days, "historical_features", counted)
    assert build_frame(store, contract).index == finished
    assert joined == [finished.parts["holdout"].rows]


def test_a_changed_partition_is_noticed(store: Store, contract: Contract) -> None:
    land(store, contract, make_rows())
    frame = build_frame(store, contract)
    ref = frame.index.parts["training"].partitions[1]
    store.put(ref.key, store.get(ref.key)[:-1])
    with pytest.raises(ValueError, match="was changed"):
        _ = frame.training


def test_an_empty_lake_is_refused(store: Store, contract: Contract) -> None:
    with pytest.raises(FrameError, match=f"the lake of {contract.source} is empty: .*run ingest"):
        build_frame(store, contract)


def test_too_few_days_are_refused_with_the_remedy(store: Store, contract: Contract) -> None:
    land(store, contract, make_rows(days=3))
    with pytest.raises(FrameError, match=r"the training part of .* has 0 rows.*Land more days, or shorten maturity"):
        build_frame(store, contract)


def test_a_source_too_small_to_train_is_refused_with_counts_and_remedy(store: Store, contract: Contract) -> None:
    land(store, contract, make_rows(rows_per_day=45))
    words = r"the training part of .* has 78 rows, 12 of them with a click; 100 rows, .* Land more days, or shorten"
    with pytest.raises(FrameError, match=words):
        build_frame(store, contract)


def test_rows_of_one_moment_are_refused(store: Store, contract: Contract) -> None:
    land(store, contract, [row | {"event_timestamp": FIRST} for row in make_rows(days=1)])
    with pytest.raises(FrameError, match=r"all 400 impressions of .* have the event time 2026-.*map event_timestamp"):
        build_frame(store, contract)


def test_a_part_without_rewards_is_refused_and_nothing_is_written(store: Store, contract: Contract) -> None:
    rows = make_rows()
    last = max(row["event_timestamp"] for row in rows)
    land(store, contract, [row | {"click": 0} if last - 2 * DAY < row["event_timestamp"] else row for row in rows])
    with pytest.raises(
        FrameError, match=r"the holdout part of .* 0 of them with a click; .* or lengthen split.holdout"
    ):
        build_frame(store, contract)
    assert list(store.list(f"features/{contract.source}/frames/")) == []


def test_tallies_count_impressions_and_rewards_by_value_and_fold(store: Store, contract: Contract) -> None:
    land(store, contract, make_rows())
    frame = build_frame(store, contract)
    parts: tuple[Part, ...] = ("training", "validation")
    groups: list[tuple[str, ...]] = [("ad_id",), ("ad_id", "device"), ("campaign_id",)]
    by_ad, by_both, by_campaign = frame.target_counts(parts, "click", groups, minimum_occurrences=70)
    rows = pd.concat([frame.training, frame.validation], ignore_index=True)
    rows = rows.assign(fold=folds_of(rows), impressions=1, rewards=rows["click"])
    for found, names in ((by_ad, ["ad_id"]), (by_both, ["ad_id", "device"])):
        often = rows[rows.groupby(names)["impressions"].transform("sum") >= 70]
        expected = often.groupby([*names, "fold"])[["impressions", "rewards"]].sum()
        assert len(expected) > 0
        pd.testing.assert_frame_equal(found.set_index([*names, "fold"]).sort_index(), expected, check_index_type=False)
    assert by_campaign.empty
