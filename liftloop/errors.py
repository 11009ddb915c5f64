"""The one kind of error that commands show without a traceback."""


class UserError(Exception):
    """Something the user can fix; the message says what is wrong and how."""

    is_retryable = False  # whether a retry can succeed
