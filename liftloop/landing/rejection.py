"""The refusal of a whole landed file."""


class FileRejectedError(ValueError):
    """The file does not match its contract; all of it goes to quarantine, with this message."""
