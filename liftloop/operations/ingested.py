"""What an ingest has done, in one sentence."""

from collections import Counter
from collections.abc import Sequence

from liftloop.lake.ledger import Entry
from liftloop.reporting.words import counted

_COUNTS = {"rows_valid": "valid", "rows_quarantined": "in quarantine", "rows_duplicate": "duplicate"}


def ingest_words(source: str, entries: Sequence[Entry], held: int, outcomes_waiting: int = 0) -> str:
    """Numbers of files and rows, of landed files not in the lake, and of impressions that only outcomes name."""
    counts = Counter({name: sum(getattr(entry, name) for entry in entries) for name in _COUNTS})
    rows = [f"{counts[name]:,} {words}" for name, words in _COUNTS.items() if counts[name]]
    done = f"{counted(len(entries), 'file')}; rows: {', '.join(rows) or 'none'}" if entries else "nothing waited"
    outside = f"; {counted(held, 'landed file')} not in the lake: `liftloop held {source}` says why"
    waiting = f"; outcomes of {counted(outcomes_waiting, 'impression')} not in the lake"
    return done + waiting * bool(outcomes_waiting) + outside * bool(held)
