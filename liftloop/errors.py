"""The one kind of error that commands show without a traceback."""


class UserError(Exception):
    """Something the user can mend; the message says what is wrong and how."""

    may_pass = False  # whether the same may go well when it is tried again
