"""Artifacts of a flow run in the Prefect UI: links to pages, tables and texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from liftloop.storage.keys import page_key
from liftloop.storage.runs import Step, record
from liftloop.storage.store import open_store


def publish_page(source: str, kind: str, html: str) -> None:
    """Write a page under `reports/` and link it from the run in the UI."""
    page = open_store().put(page_key(source, kind, flow_run.id), html.encode())
    publish_link(source, kind, page.key)
    record(Step(name="report", outputs=(page,)))


def publish_link(source: str, kind: str, key: str) -> None:
    """Link an object from the run in the UI, for as long as S3 allows a signed link to be valid."""
    create_link_artifact(open_store().share_link(key), link_text=key, key=_artifact_key(source, kind, "page"))


def publish_table(source: str, kind: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Show a table with the run in the UI."""
    create_table_artifact(
        [dict(row) for row in rows], key=_artifact_key(source, kind, "table"), description=description
    )


def publish_text(source: str, kind: str, markdown: str) -> None:
    """Show a short text with the run in the UI."""
    create_markdown_artifact(markdown, key=_artifact_key(source, kind, "text"))


def _artifact_key(*parts: str) -> str:
    return "-".join(parts).replace("_", "-")
