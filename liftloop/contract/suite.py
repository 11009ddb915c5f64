"""The suite of data rules shared by all sources, in Great Expectations' format."""

import json
from typing import Any

from liftloop.contract.contract import Contract
from liftloop.errors import UserError
from liftloop.project import find_project
from liftloop.storage.hashing import fingerprint_of

Suite = dict[str, Any]  # the arguments of a Great Expectations suite


class SuiteError(UserError):
    """The suite cannot be used; the message names file or expectation, and the remedy."""


def load_suite() -> Suite:
    """The project's suite.

    Raises:
        SuiteError: it is not JSON, or has no expectations.
    """
    file = find_project().suite_file
    try:
        suite: Suite = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SuiteError(
            f"{file}: not readable as JSON: {error}; correct it, or take the one of the repository"
        ) from None
    if not isinstance(suite, dict) or not isinstance(suite.get("expectations"), list):
        raise SuiteError(f"{file}: expectations: missing; it is a Great Expectations suite with a list of them")
    return suite


# The sections of a contract that decide which rows a landed file becomes.
_SHAPING = {
    "source",
    "landing",
    "lookups",
    "columns",
    "context",
    "keep",
    "deduplicate_by",
    "outcome",
    "quarantine_share_limit",
    "duplicate_share_limit",
}


def reading_fingerprint(contract: Contract) -> str:
    """Changes when the suite does, or a part of the contract that decides which rows a landed file becomes."""
    shaping = contract.model_dump_json(include=_SHAPING, exclude_defaults=True)
    return fingerprint_of(shaping, json.dumps(load_suite(), sort_keys=True))
