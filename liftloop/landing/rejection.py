"""The refusal of a whole landed file."""

import errno

import duckdb

_LONGEST_CHARACTERS = 500


class FileRejectedError(ValueError):
    """The file does not match its contract; all of it goes to quarantine, with this message."""

    def __init__(self, message: str) -> None:
        is_long = len(message) > _LONGEST_CHARACTERS  # a damaged header may name thousands of columns
        super().__init__(message[:_LONGEST_CHARACTERS] + "…" if is_long else message)


def summary_of(error: Exception) -> str:
    """The first line of a library's message: the others quote our query, or give advice about it."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def is_shortage(error: Exception) -> bool:
    """Whether the machine lacks memory or disk, which is no fault of a file: the run fails and is repeated."""
    of_disk = getattr(error, "errno", None) in {errno.ENOSPC, errno.EMFILE} or "No space left" in str(error)
    return of_disk or isinstance(error, duckdb.OutOfMemoryException)
