"""The suite of data rules that all sources share, as Great Expectations writes it."""

import json
from pathlib import Path
from typing import Any

from liftloop.contract.contract import Contract
from liftloop.storage.store import fingerprint_of

SUITE_PATH = Path("expectations/impressions.json")
Suite = dict[str, Any]  # the arguments of a Great Expectations suite


def load_suite(path: Path = SUITE_PATH) -> Suite:
    """The suite as it is written."""
    suite: Suite = json.loads(path.read_text(encoding="utf-8"))
    return suite


def rules_fingerprint(contract: Contract, suite_path: Path = SUITE_PATH) -> str:
    """Changes when the contract or the suite does."""
    return fingerprint_of(contract.model_dump_json(), suite_path.read_text(encoding="utf-8"))
