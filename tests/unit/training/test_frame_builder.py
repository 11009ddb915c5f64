"""Where the parts of a training frame begin and end."""

from datetime import UTC, datetime, timedelta

from liftloop.contract.sections import Split, Training
from liftloop.training.frame_builder import split_by_time

START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 11, 12, tzinfo=UTC)


def test_the_newest_rows_are_held_out_and_no_moment_is_in_two_parts() -> None:
    spans = split_by_time((START, END), Split(validation=timedelta(days=1), holdout=timedelta(hours=36)), Training())
    assert spans == {
        "training": (START, datetime(2026, 3, 9, tzinfo=UTC)),
        "validation": (datetime(2026, 3, 9, tzinfo=UTC), datetime(2026, 3, 10, tzinfo=UTC)),
        "holdout": (datetime(2026, 3, 10, tzinfo=UTC), END),
    }
