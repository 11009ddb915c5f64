"""What an ingest has done, in one sentence."""

import pytest

from liftloop.lake.ledger import Entry
from liftloop.operations.ingested import ingest_words
from liftloop.storage.store import ObjectRef

FILE = Entry(object_id="a", landed=ObjectRef("landing/shop/a.csv", "0" * 64, 1), status="ingested", rows_valid=1_200)
DIRTY = FILE.model_copy(update={"rows_quarantined": 3, "rows_duplicate": 2})
EMPTY = FILE.model_copy(update={"rows_valid": 0})


@pytest.mark.parametrize(
    ("entries", "held", "words"),
    [
        ([], 0, "nothing waited"),
        ([FILE], 0, "1 file; rows: 1,200 valid"),
        ([FILE, DIRTY], 0, "2 files; rows: 2,400 valid, 3 in quarantine, 2 duplicate"),
        ([EMPTY], 0, "1 file; rows: none"),
        ([], 1, "nothing waited; 1 landed file not in the lake: `liftloop held shop` says why"),
    ],
)
def test_files_rows_and_what_is_held_are_counted(entries: list[Entry], held: int, words: str) -> None:
    assert ingest_words("shop", entries, held) == words


def test_outcomes_that_wait_are_counted() -> None:
    words = "1 file; rows: 1,200 valid; outcomes of 2 impressions not in the lake"
    assert ingest_words("shop", [FILE], held=0, outcomes_waiting=2) == words
