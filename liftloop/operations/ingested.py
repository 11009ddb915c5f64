"""What an ingest has done, in one sentence."""

from collections import Counter
from collections.abc import Sequence

from liftloop.lake.ledger import Entry
from liftloop.reporting.words import counted

_COUNTS = {"rows_valid": "valid", "rows_quarantined": "in quarantine", "rows_duplicate": "duplicate"}


def ingest_words(source: str, entries: Sequence[Entry], held: int) -> str:
    """Numbers of files and rows, and of the landed files that are not in the lake."""
    counts = Counter({name: sum(getattr(entry, name) for entry in entries) for name in _COUNTS})
    rows = [f"{counts[name]:,} {words}" for name, words in _COUNTS.items() if counts[name]]
    done = f"{counted(len(entries), 'file')}; rows: {', '.join(rows) or 'none'}" if entries else "nothing waited"
    outside = f"; {counted(held, 'landed file')} not in the lake: `liftloop held {source}` says why"
    return done + outside * bool(held)
