"""Tiles and feature tables: which days depend on which, and what a row knows."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from lib.feature_lake import impression, lake_table, make_contract

from liftloop.features.incremental import Partition
from liftloop.features.tiles import tile_partitions
from liftloop.features.windows import feature_partitions
from liftloop.lake.days import looking_back
from liftloop.settings import Settings
from liftloop.storage.duckdb import connect
from liftloop.storage.store import Listed

DAY = date(2026, 3, 10)
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
CONTRACT = make_contract("unit", horizon="3d")

Days = dict[date, list[Listed]]


def listed(*offsets: int, changed: int | None = None) -> Days:
    """One file on each of these days, counted from DAY; the content of one of them is another than usual."""
    return {
        DAY + timedelta(offset): [Listed(f"file {offset}", "other" if offset == changed else "usual", 1, MIDNIGHT)]
        for offset in offsets
    }


def stale(before: list[Partition], after: list[Partition]) -> set[int]:
    """The days, counted from DAY, that would be computed."""
    known = {partition.key: partition.fingerprint for partition in before}
    return {(new.day - DAY).days for new in after if known.get(new.key) != new.fingerprint}


def at(hours: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hours)


def compute(partition: Partition, sources: pa.Table) -> pa.Table:
    with connect(Settings()) as connection:
        return partition.compute(connection, connection.from_arrow(sources))


def tiles_of(rows: list[dict[str, Any]], key: str = "ad_id", day: int = 0) -> pa.Table:
    (partition,) = [each for each in tile_partitions(CONTRACT, listed(day)) if f"/{key}/" in each.table]
    return compute(partition, lake_table(CONTRACT, rows))


def features_of(
    rows: list[dict[str, Any]], day: int = 0, seen_on: tuple[int, ...] = (0,)
) -> dict[float, dict[str, Any]]:
    """Hours since midnight of DAY -> the features of ad `a0` at that boundary, in the partition of that day.

    `seen_on`: the days of the rows.
    """
    partitions = feature_partitions(CONTRACT, "ad_id", listed(*range(9)))
    found = compute(partitions[day], pa.concat_tables([tiles_of(rows, day=seen) for seen in seen_on])).to_pylist()
    return {(row["event_timestamp"] - MIDNIGHT) / timedelta(hours=1): row for row in found}


class TestDays:
    def test_a_day_looks_back_and_never_ahead(self) -> None:
        found = looking_back(listed(0, 5), 2)
        assert {(day - DAY).days: [file.key for file in files] for day, files in found.items()} == {
            0: ["file 0"],
            1: ["file 0"],
            2: ["file 0"],
            5: ["file 5"],
        }

    def test_nothing_has_no_days(self) -> None:
        assert looking_back({}, 3) == {}

    @pytest.mark.parametrize("horizon", ["1h", "1d", "3d"])
    def test_a_new_day_touches_no_other_tiles(self, horizon: str) -> None:
        contract = make_contract("unit", horizon=horizon)
        assert stale(tile_partitions(contract, listed(*range(20))), tile_partitions(contract, listed(*range(21)))) == {
            20
        }

    def test_a_late_file_opens_the_days_that_its_outcomes_reach(self) -> None:
        before, after = listed(*range(20)), listed(*range(20), changed=4)
        assert stale(tile_partitions(CONTRACT, before), tile_partitions(CONTRACT, after)) == {4, 5, 6, 7}

    def test_features_reach_eight_days(self) -> None:
        before, after = listed(*range(20)), listed(*range(20), changed=4)
        days = stale(feature_partitions(CONTRACT, "ad_id", before), feature_partitions(CONTRACT, "ad_id", after))
        assert days == set(range(4, 13))

    def test_the_order_of_a_listing_does_not_matter(self) -> None:
        files = [Listed(f"file {number}", "usual", 1, MIDNIGHT) for number in range(3)]
        one, other = (tile_partitions(CONTRACT, {DAY: order}) for order in (files, files[::-1]))
        assert stale(one, other) == set()

    def test_the_query_is_part_of_the_fingerprint(self) -> None:
        one, other = (tile_partitions(make_contract("unit", horizon=horizon), listed(0)) for horizon in ("1h", "2h"))
        assert stale(one, other) == {0}


@pytest.mark.parametrize("is_features", [False, True])
def test_the_number_of_threads_does_not_show(is_features: bool) -> None:
    rng = random.Random(3)
    moments = (rng.uniform(-20, 24) for _ in range(20_000))
    rows = [impression(at(hour), user_id=f"u{rng.randrange(900)}", click=1, revenue=rng.random()) for hour in moments]
    partition, sources = tile_partitions(CONTRACT, listed(0))[0], lake_table(CONTRACT, rows)
    if is_features:
        partition, sources = feature_partitions(CONTRACT, "user_id", listed(0))[0], compute(partition, sources)
    with connect(Settings()) as connection:
        connection.from_arrow(pa.concat_tables([sources] * 20)).create("copies")  # more than one thread's share of rows
        found = []
        for threads in (1, 2, 7):
            connection.execute(f"SET threads = {threads}")
            found.append(partition.compute(connection, connection.table("copies")))
            connection.execute("DROP VIEW sources")
    assert found[0].num_rows > 1000
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])


class TestTiles:
    def test_an_outcome_counts_when_it_became_known(self) -> None:
        clicked = impression(at(10.9), at(11.1), click=1, conversion=1, revenue=0.25, cost=0.125)
        first, second = tiles_of([clicked]).to_pylist()
        assert (first["hour"], first["impressions"], first["clicks"], first["revenue"]) == (at(10), 1, 0, 0)
        assert (first["last_impression"], first["last_click"]) == (at(10.9), None)
        assert (second["hour"], second["impressions"], second["clicks"], second["conversions"]) == (at(11), 0, 1, 1)
        assert (second["revenue"], second["cost"]) == (Decimal("0.25"), Decimal("0.125"))
        assert (second["last_impression"], second["last_click"]) == (None, at(11.1))

    def test_a_day_ends_before_midnight(self) -> None:
        last = at(24) - timedelta(microseconds=1)
        table = tiles_of([impression(last, at(24), click=1), impression(at(-1), at(0), click=1), impression(at(24))])
        assert [(row["hour"], row["impressions"], row["clicks"]) for row in table.to_pylist()] == [
            (at(0), 0, 1),
            (at(23), 1, 0),
        ]

    def test_outcomes_after_the_horizon_or_before_the_impression_do_not_count(self) -> None:
        in_time, late, early = (impression(at(hours), at(2), click=1) for hours in (2 - 72, 2 - 72.001, 2.5))
        assert sum(row["clicks"] for row in tiles_of([in_time, late, early]).to_pylist()) == 1

    def test_rows_without_the_key_are_left_out(self) -> None:
        rows = [impression(at(1), user_id=None), impression(at(1), user_id="u1")]
        assert tiles_of(rows, "user_id").column("key").to_pylist() == ["u1"]
        assert tiles_of(rows, "ad_id").column("impressions").to_pylist() == [2]

    def test_unknown_outcomes_are_none(self) -> None:
        (row,) = tiles_of([impression(at(1), conversion=None, revenue=None, cost=None)]).to_pylist()
        assert (row["conversions"], row["revenue"], row["cost"]) == (0, 0, 0)

    def test_money_does_not_depend_on_the_order_of_rows(self) -> None:
        rows = [impression(at(1), click=1, revenue=amount) for amount in (0.1, 0.2, 0.3, 1e6, 1e-9)]
        shuffled = random.Random(1).sample(rows, k=len(rows))
        assert tiles_of(rows).column("revenue").to_pylist() == [Decimal("1000000.600000001")]
        assert tiles_of(rows).equals(tiles_of(shuffled))


class TestFeatures:
    def test_rows_stand_where_an_hour_ends_and_where_it_leaves_a_window(self) -> None:
        rows = [impression(at(10.5))]
        assert [features_of(rows, day).keys() for day in (0, 1, 7)] == [{11, 12}, {35}, {179}]
        counts = {hours: row for day in (0, 1, 7) for hours, row in features_of(rows, day).items()}
        assert [counts[hours]["ad_impressions_1h"] for hours in (11, 12, 35, 179)] == [1, 0, 0, 0]
        assert [counts[hours]["ad_impressions_1d"] for hours in (11, 12, 35, 179)] == [1, 1, 0, 0]
        assert [counts[hours]["ad_impressions_7d"] for hours in (11, 12, 35, 179)] == [1, 1, 1, 0]

    def test_a_row_knows_nothing_of_its_own_hour(self) -> None:
        found = features_of([impression(at(10.5)), impression(at(11), at(11), click=1, revenue=2.0)])
        assert (found[11]["ad_impressions_7d"], found[11]["ad_clicks_7d"], found[11]["ad_revenue_7d"]) == (1, 0, 0)
        assert (found[12]["ad_impressions_7d"], found[12]["ad_clicks_7d"], found[12]["ad_revenue_7d"]) == (2, 1, 2)

    def test_the_last_hour_of_a_day_is_known_on_the_next(self) -> None:
        assert features_of([impression(at(23.5))], 0) == {}
        assert features_of([impression(at(23.5))], 1)[24]["ad_impressions_1h"] == 1

    def test_smoothed_rate(self) -> None:
        rows = [impression(at(1), at(1), click=click) for click in (1, 0, 0, 0)]
        assert features_of(rows)[2]["ad_smoothed_ctr_1h"] == pytest.approx(2 / 104)
        assert features_of(rows)[3]["ad_smoothed_ctr_1h"] == pytest.approx(1 / 100)

    def test_recency_looks_back_as_far_as_the_longest_window(self) -> None:
        found = [features_of([impression(at(10.25), at(10.75), click=1)], day) for day in (0, 1, 7)]
        assert [row["ad_last_impression_seconds"] for row in found[0].values()] == [at(10.25).timestamp()] * 2
        assert [row["ad_last_click_seconds"] for row in found[1].values()] == [at(10.75).timestamp()]
        assert [row["ad_last_click_seconds"] for row in found[2].values()] == [None]

    def test_recency_reaches_the_very_start_of_the_longest_window(self) -> None:
        rows = [impression(at(0), at(0), click=1), impression(at(167.5))]
        assert features_of(rows, 7, seen_on=(0, 6))[168]["ad_last_click_seconds"] == at(0).timestamp()

    def test_cost_alone_is_no_activity(self) -> None:
        assert features_of([impression(at(10.5), at(15), cost=1.0)]).keys() == {11, 12}

    def test_a_source_has_the_measures_that_it_reports(self) -> None:
        without = CONTRACT.model_copy(update={"columns": {"click": CONTRACT.columns["click"]}})
        (partition,) = feature_partitions(without, "ad_id", listed(0))
        columns = compute(partition, tiles_of([impression(at(22.5))])).column_names
        assert "ad_clicks_7d" in columns
        assert not any("revenue" in name or "conversions" in name for name in columns)
