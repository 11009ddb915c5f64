"""Permissions in the embedded object store: one identity per role, least privilege by prefix."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from liftloop.settings import Role, Settings
from liftloop.stack.layout import Credentials
from liftloop.storage.keys import (
    AUDIT,
    BLOBS,
    CHECKPOINTS,
    ERASURES,
    FEATURES,
    LAKE,
    LANDING,
    LEDGER,
    QUARANTINE,
    REGISTRY,
    REPORTS,
    RUNS,
    TILES,
)

_READ, _WRITE, _DELETE = "s3:GetObject", "s3:PutObject", "s3:DeleteObject"


@dataclass(frozen=True)
class Grant:
    """The prefixes that a role may use; an empty prefix is the whole bucket. Permission to read includes listing."""

    read: tuple[str, ...]
    write: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()  # the store separates writing from deleting, but not from overwriting


GRANTS: dict[Role, Grant] = {
    "ingest": Grant(
        # The bridge has this role too, and reads features and registry to see what is due.
        read=(ERASURES, FEATURES, LAKE, LANDING, LEDGER, QUARANTINE, REGISTRY, REPORTS, RUNS),
        write=(LAKE, LEDGER, QUARANTINE, REPORTS, RUNS),
        delete=(LEDGER, LAKE),
    ),
    "train": Grant(
        read=("",),
        write=(BLOBS, CHECKPOINTS, FEATURES, REGISTRY, REPORTS, RUNS, TILES),
        delete=(CHECKPOINTS, FEATURES, TILES),
    ),
    "serve": Grant(read=(BLOBS, FEATURES, REGISTRY)),
    "audit": Grant(read=(AUDIT,), write=(AUDIT,)),
}


def identities(settings: Settings, credentials: Credentials) -> str:
    """The store's identities as JSON: the operator, with the whole bucket but no admin rights, and each role."""
    every = [f"{action}:{settings.bucket}" for action in ("Read", "List", "Write", "Tagging")]
    operator = _signer("operator", credentials) | {"actions": every}
    roles = [_signer(role, credentials) | {"policyNames": [role]} for role in GRANTS]
    policies = [{"name": role, "content": _policy(settings.bucket, grant)} for role, grant in GRANTS.items()]
    return json.dumps({"identities": [operator, *roles], "policies": policies}, indent=2)


def _signer(role: Role, credentials: Credentials) -> dict[str, object]:
    keys = credentials.keys(role)
    return {
        "name": role,
        "credentials": [{"accessKey": keys.access_key_id, "secretKey": keys.secret_access_key}],
    }


def _policy(bucket: str, grant: Grant) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(_statements(f"arn:aws:s3:::{bucket}", grant))})


def _statements(bucket: str, grant: Grant) -> Iterator[dict[str, object]]:
    """The grant as AWS policy statements (IAM User Guide, "IAM JSON policy elements reference")."""
    for action, prefixes in ((_READ, grant.read), (_WRITE, grant.write), (_DELETE, grant.delete)):
        if prefixes:
            yield {"Effect": "Allow", "Action": [action], "Resource": [f"{bucket}/{each}*" for each in prefixes]}
    listed = {} if "" in grant.read else {"Condition": {"StringLike": {"s3:prefix": [f"{p}*" for p in grant.read]}}}
    yield {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket], **listed}
