"""Counts and durations in words."""

from datetime import timedelta


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 run`, `2 runs`, `1,000 files`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def in_words(duration: timedelta) -> str:
    """A duration in its largest unit and the next smaller one: `3 d 2 h`, `15 min`."""
    rest, counts = max(0, int(duration.total_seconds())), []
    for seconds, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        counts.append((rest // seconds, unit))
        rest %= seconds
    first = next((place for place, (count, _) in enumerate(counts) if count), 0)
    return " ".join(f"{count} {unit}" for count, unit in counts[first : first + 2] if count) or "0 s"
