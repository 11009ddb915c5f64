"""The one kind of error that commands show without a traceback."""


class UserError(Exception):
    """An error that the user can fix; the message says what is wrong and how to fix it."""

    is_retryable = False  # whether a retry can succeed
