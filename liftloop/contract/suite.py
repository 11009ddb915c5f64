"""The suite of data rules that all sources share, as Great Expectations writes it."""

import json
from typing import Any

from liftloop.contract.contract import Contract
from liftloop.project import find_project
from liftloop.storage.hashing import fingerprint_of

Suite = dict[str, Any]  # the arguments of a Great Expectations suite


def load_suite() -> Suite:
    """The project's suite as it is written."""
    suite: Suite = json.loads(_read())
    return suite


def rules_fingerprint(contract: Contract) -> str:
    """Changes when the contract or the suite does."""
    return fingerprint_of(contract.model_dump_json(), _read())


def _read() -> str:
    return find_project().suite_file.read_text(encoding="utf-8")
