"""The suite of data rules shared by all sources, in Great Expectations' format."""

import json
from typing import Any

from liftloop.contract.contract import Contract
from liftloop.project import find_project
from liftloop.storage.hashing import fingerprint_of

Suite = dict[str, Any]  # the arguments of a Great Expectations suite


def load_suite() -> Suite:
    """The project's suite."""
    suite: Suite = json.loads(_read())
    return suite


def rules_fingerprint(contract: Contract) -> str:
    """Changes when the contract or the suite does."""
    return fingerprint_of(contract.model_dump_json(), _read())


def _read() -> str:
    return find_project().suite_file.read_text(encoding="utf-8")
