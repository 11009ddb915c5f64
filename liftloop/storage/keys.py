"""Every key of the bucket. Its first part names the kind; roles are granted these prefixes (`stack/roles.py`)."""

from datetime import datetime

AUDIT = "audit/"  # promotions, chained by hash
BLOBS = "blobs/"  # immutable artifacts, named by content
CHECKPOINTS = "checkpoints/"  # of running fits
ERASURES = "erasures/"  # people whose impressions are erased
FEATURES = "features/"  # windows, indexes, training frames
LAKE = "lake/"  # validated impressions, and their deduplication keys
LANDING = "landing/"  # files as landed: the only objects that no run writes
LEDGER = "ledger/"  # the outcome of every landed object
QUARANTINE = "quarantine/"  # rejected rows and files, with reasons
REGISTRY = "registry/"  # model versions, champion, challenger, trials, approvals
REPORTS = "reports/"  # pages and evaluations
RUNS = "runs/"  # manifests
TILES = "tiles/"  # hourly sums behind the windows


def landing_prefix(source: str) -> str:
    return f"{LANDING}{source}/"


def quarantine_prefix(source: str) -> str:
    return f"{QUARANTINE}{source}/"


def impressions_prefix(source: str) -> str:
    return f"{LAKE}{source}/impressions/"


def outcomes_prefix(source: str) -> str:
    """Rows of files of outcomes, which join the impressions."""
    return f"{LAKE}{source}/outcomes/"


def known_keys_prefix(source: str, fingerprint: str = "") -> str:
    """Deduplication keys of impressions; one folder for each set of columns."""
    return f"{LAKE}{source}/keys/" + (f"{fingerprint}/" if fingerprint else "")


def ledger_prefix(source: str, folder: str) -> str:
    """Entries of landed objects; `folder` is `ingested` or `held`."""
    return f"{LEDGER}{source}/{folder}/"


def erasures_key(source: str) -> str:
    return f"{ERASURES}{source}.json"


def tiles_prefix(source: str, key: str = "") -> str:
    """Tiles of one key column, or of all."""
    return f"{TILES}{source}/" + (f"{key}/" if key else "")


def tiles_index_key(source: str) -> str:
    return f"{TILES}{source}/index.json"


def features_prefix(source: str, key: str) -> str:
    """Feature tables of one key column."""
    return f"{FEATURES}{source}/{key}/"


def features_index_key(source: str) -> str:
    return f"{FEATURES}{source}/index.json"


def materialized_key(source: str) -> str:
    """The record of the online store's last materialization."""
    return f"{FEATURES}{source}/materialized.json"


def materialized_lake_key(source: str) -> str:
    """The version of the lake that the features in service include."""
    return f"{FEATURES}{source}/lake.json"


def frame_prefix(source: str, fingerprint: str) -> str:
    return f"{FEATURES}{source}/frames/{fingerprint}/"


def frame_index_key(source: str, fingerprint: str) -> str:
    return f"{frame_prefix(source, fingerprint)}frame.json"


def frame_day_prefix(source: str, fingerprint: str) -> str:
    """Partitions of the rows of one day, which all frames share."""
    return f"{FEATURES}{source}/frames/days/{fingerprint}/"


def frame_day_key(source: str, fingerprint: str) -> str:
    return f"{frame_day_prefix(source, fingerprint)}day.json"


def checkpoints_prefix(fingerprint: str) -> str:
    return f"{CHECKPOINTS}{fingerprint}/"


def versions_prefix(source: str) -> str:
    return f"{REGISTRY}{source}/versions/"


def version_key(source: str, version: str) -> str:
    return f"{versions_prefix(source)}{version}.json"


def champion_key(source: str) -> str:
    return f"{REGISTRY}{source}/champion.json"


def challenger_key(source: str) -> str:
    return f"{REGISTRY}{source}/challenger.json"


def training_key(source: str, fingerprint: str) -> str:
    """Names the version that a training produced."""
    return f"{REGISTRY}{source}/trainings/{fingerprint}"


def trials_prefix(source: str, fingerprint: str) -> str:
    """Finished trials of a training."""
    return f"{REGISTRY}{source}/trials/{fingerprint}/"


def approval_key(source: str, version: str) -> str:
    return f"{REGISTRY}{source}/approvals/{version}.json"


def audit_prefix(source: str) -> str:
    return f"{AUDIT}{source}/"


def audit_key(source: str, number: int) -> str:
    return f"{audit_prefix(source)}{number:08}.json"


def card_key(source: str, version: str) -> str:
    """The model card."""
    return f"{REPORTS}{source}/models/{version}.html"


def page_key(source: str, kind: str, run_id: str) -> str:
    """A page written by one run."""
    return f"{REPORTS}{source}/{kind}/{run_id}.html"


def off_policy_key(source: str) -> str:
    return f"{REPORTS}{source}/off_policy.html"


def evaluations_prefix(source: str) -> str:
    return f"{REPORTS}{source}/evaluations/"


def evaluation_key(source: str, until: datetime) -> str:
    """Keys sort by time, the newest last."""
    return f"{evaluations_prefix(source)}{until:%Y%m%dT%H%M%S.%fZ}.json"


def runs_prefix(flow: str) -> str:
    return f"{RUNS}{flow}/"


def manifest_key(flow: str, run_id: str) -> str:
    return f"{runs_prefix(flow)}{run_id}/manifest.json"


def blob_key(sha256: str, suffix: str) -> str:
    return f"{BLOBS}sha256/{sha256[:2]}/{sha256}{suffix}"
