"""Freshness objectives and disk use."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lib.gate_lake import make_contract

from liftloop.operations.health import SourceHealth, disk_use
from liftloop.storage.store import Listed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def health(
    *, landed: timedelta | None = None, behind: timedelta | None = None, training_failure: str | None = None
) -> SourceHealth:
    """Of a source with a freshness of 15 minutes, where an object or the features wait for so long."""
    return SourceHealth(
        contract=make_contract("shop", freshness="15m"),
        waiting=0 if landed is None else 3,
        outdated=0,
        oldest=None if landed is None else Listed("landing/shop/a.csv", "e", 1, NOW - landed),
        held=0,
        features_due_since=None if behind is None else NOW - behind,
        champion=None,
        training="",
        training_failure=training_failure,
    )


def test_trainings_that_fail_are_told() -> None:
    assert health(training_failure="it failed").misses(NOW) == ["shop: it failed"]


def test_the_objective_is_missed_by_what_waits_too_long() -> None:
    late = health(landed=timedelta(hours=3, minutes=2), behind=timedelta(minutes=16))
    assert late.misses(NOW) == [
        "shop: landing/shop/a.csv has waited in landing for 3 h 2 min, 2 h 47 min longer than the contract's freshness"
        " of 15 min",
        "shop: the features have lagged behind the lake for 16 min, 1 min longer than the contract's freshness of 15"
        " min",
    ]


@pytest.mark.parametrize("waited", [timedelta(minutes=15), timedelta(seconds=-5)])
def test_the_objective_is_met_until_its_time_is_over(waited: timedelta) -> None:
    assert health(landed=waited, behind=waited).misses(NOW) == []
    assert health().misses(NOW) == []


def test_disk_use_is_by_folder(tmp_path: Path) -> None:
    (tmp_path / "prefect" / "deep").mkdir(parents=True)
    (tmp_path / "prefect" / "deep" / "rows").write_bytes(b"x" * 100_000)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "link").symlink_to(tmp_path / "prefect" / "deep" / "rows")
    (tmp_path / "lock").touch()
    used = disk_use(tmp_path)
    assert sorted(used) == ["logs", "prefect"]
    assert 100_000 <= used["prefect"] < 200_000
    assert used["logs"] < 10_000
