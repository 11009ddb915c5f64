"""The record of a flow run: its manifest in the store, and its pages and tables in the Prefect UI."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from liftloop.settings import load_settings
from liftloop.storage.runs import Manifest, Step, recorded
from liftloop.storage.store import Store, open_store


@contextmanager
def record_run(source: str) -> Iterator[Manifest]:
    """The manifest of the flow run that is under way; append each Step to its `steps`."""
    parents = (flow_run.parent_flow_run_id,) if flow_run.parent_flow_run_id else ()
    patient = Store(load_settings(), attempts=10)  # outside of the tasks, which are tried again, nothing else is
    with recorded(patient, flow_run.flow_name, flow_run.id, source, flow_run.parameters, parents) as manifest:
        yield manifest


def publish_page(source: str, kind: str, html: str) -> Step:
    """Keep a page under `reports/` and link it from the run in the UI."""
    page = open_store().put(f"reports/{source}/{kind}/{flow_run.id}.html", html.encode())
    publish_link(source, kind, page.key)
    return Step(name="report", outputs=(page,))


def publish_link(source: str, kind: str, key: str) -> None:
    """Link an object from the run in the UI, for as long as S3 lets a link live."""
    create_link_artifact(open_store().share_link(key), link_text=key, key=_artifact_key(source, kind, "page"))


def publish_table(source: str, kind: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Show a table with the run in the UI."""
    create_table_artifact(
        [dict(row) for row in rows], key=_artifact_key(source, kind, "table"), description=description
    )


def publish_text(source: str, kind: str, markdown: str) -> None:
    """Show a few words with the run in the UI."""
    create_markdown_artifact(markdown, key=_artifact_key(source, kind, "text"))


def _artifact_key(*parts: str) -> str:
    return "-".join(parts).replace("_", "-")
