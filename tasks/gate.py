"""Judges whether a model version may become champion."""

from prefect.runtime import flow_run

from liftloop.contract.loading import load_contract
from liftloop.gate.judge import judge
from liftloop.gate.promotion import promotion_words
from liftloop.gate.verdict import Verdict
from liftloop.registry.versions import ModelVersion, Pointer
from liftloop.storage.keys import card_key
from liftloop.storage.store import open_store
from tasks.final_state import FinalState, completed
from tasks.pages import publish_link, publish_table, publish_text
from tasks.step import step


@step
def judge_version(source: str, version: ModelVersion, champion: Pointer | None) -> Verdict:
    """Run all checks of a version against the given champion, and publish the evidence in the UI."""
    verdict = judge(open_store(), load_contract(source), version, champion)
    columns = ("title", "observed", "threshold", "verdict", "reason")
    rows = [{name: getattr(check, name) for name in columns} for check in verdict.checks]
    publish_table(source, "gate", rows, f"{verdict.source} {verdict.version}: {verdict.verdict}")
    publish_link(source, "model-card", card_key(version.source, version.version))
    publish_text(source, "verdict", f"## {version.version} of {source}\n\n{verdict.summary}")
    print(verdict.summary)
    return verdict


def verdict_state(verdict: Verdict, champion: Pointer | None) -> FinalState:
    """What became of the version; the list of runs shows whether it was promoted or refused."""
    name, words = promotion_words(verdict, champion, flow_run.id)
    return completed(words, name)
