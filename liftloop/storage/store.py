"""The object store: one S3 bucket. Objects carry their SHA-256 and, if derived, their fingerprint as metadata."""

import mimetypes
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from liftloop.settings import Role, Settings, load_settings
from liftloop.storage.hashing import sha256_of
from liftloop.storage.keys import blob_key, landing_prefix

CONCURRENT_REQUESTS = 16
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class SwapConflict(Exception):
    """Someone else changed the object first; read it again and decide again."""


@dataclass(frozen=True, order=True)
class ObjectRef:
    """One version of an object as it was read or written; manifests list these."""

    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Listed:
    """One object of a listing. The etag names the listed version."""

    key: str
    etag: str
    size_bytes: int
    modified: datetime


@dataclass(frozen=True)
class Head:
    """The store's metadata of one version of an object. `sha256` is empty if another program wrote it."""

    key: str
    etag: str
    size_bytes: int
    sha256: str
    fingerprint: str | None

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.key, self.sha256, self.size_bytes)

    @classmethod
    def of(cls, key: str, answer: Mapping[str, Any]) -> "Head":
        """From S3's response to HEAD or GET."""
        metadata, etag = answer["Metadata"], answer["ETag"].strip('"')
        return cls(key, etag, answer["ContentLength"], metadata.get("sha256", ""), metadata.get("fingerprint"))


@dataclass(frozen=True)
class Store:
    """One bucket of an S3-compatible store. `attempts`: the most times a failing request is sent."""

    settings: Settings
    attempts: int = 5

    @cached_property
    def _client(self) -> Any:
        secret = self.settings.s3_secret_access_key
        return boto3.client(
            "s3",
            endpoint_url=self.settings.s3_endpoint_url,
            region_name=self.settings.s3_region,
            aws_access_key_id=self.settings.s3_access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"mode": "standard", "total_max_attempts": self.attempts},
                max_pool_connections=32,
            ),
        )

    @property
    def bucket(self) -> str:
        return self.settings.bucket

    def as_role(self, role: Role) -> "Store":
        """The same bucket with the keys of a role if there are any, else with the current keys."""
        return replace(self, settings=self.settings.as_role(role))

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def put(self, key: str, body: bytes, *, fingerprint: str | None = None) -> ObjectRef:
        """Write an object. `fingerprint` identifies the inputs it is derived from."""
        return self.put_version(key, body, fingerprint=fingerprint)[0]

    def put_version(self, key: str, body: bytes, *, fingerprint: str | None = None) -> tuple[ObjectRef, str]:
        """Write an object; returns its reference, and the etag of this version in listings."""
        ref = ObjectRef(key, sha256_of(body), len(body))
        metadata = {"sha256": ref.sha256} | ({"fingerprint": fingerprint} if fingerprint else {})
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        answer = self._client.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=metadata, ContentType=kind)
        return ref, answer["ETag"].strip('"')

    def put_blob(self, body: bytes, suffix: str = "") -> ObjectRef:
        """Write an immutable artifact under its own hash; the same bytes are stored once."""
        digest = sha256_of(body)
        ref = ObjectRef(blob_key(digest, suffix), digest, len(body))
        return ref if self.find(ref.key) == ref else self.put(ref.key, body)  # a changed blob is written again

    def get(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            KeyError: there is no such object.
        """
        return self.get_version(key)[0]

    def get_version(self, key: str) -> tuple[bytes, Head]:
        """The object's bytes and their version; pass its etag to `swap`.

        Raises:
            KeyError: there is no such object.
        """
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
        except self._client.exceptions.NoSuchKey:
            raise KeyError(f"no object {self.uri(key)}") from None
        return answer["Body"].read(), Head.of(key, answer)

    def get_verified(self, ref: ObjectRef) -> bytes:
        """The object's bytes, checked against the hash of a reference.

        Raises:
            KeyError: there is no such object.
            ValueError: the object was changed.
        """
        body = self.get(ref.key)
        if sha256_of(body) != ref.sha256:
            raise ValueError(f"{self.uri(ref.key)} was changed: SHA-256 is not {ref.sha256}")
        return body

    def download(self, key: str, path: Path) -> ObjectRef:
        """Copy an object to a local file; returns its reference."""
        body = self.get(key)
        path.write_bytes(body)
        return ObjectRef(key, sha256_of(body), len(body))

    def find(self, key: str) -> ObjectRef | None:
        """The object's reference from its metadata; None if it is absent or another program wrote it."""
        head = self.head(key)
        return head.ref if head and head.sha256 else None

    def fingerprint(self, key: str) -> str | None:
        """The object's fingerprint; None if it is absent or has none."""
        head = self.head(key)
        return head.fingerprint if head else None

    def swap(self, key: str, body: bytes, *, expected_etag: str | None) -> str:
        """Replace the object only if it is still the expected version (None: only if absent); returns the new etag.

        Raises:
            SwapConflict: it is another version.
        """
        condition = {"IfMatch": f'"{expected_etag}"'} if expected_etag else {"IfNoneMatch": "*"}
        metadata = {"sha256": sha256_of(body)}
        try:
            answer = self._client.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=metadata, **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}:
                raise SwapConflict(f"{self.uri(key)} changed since it was read") from None
            raise
        return str(answer["ETag"]).strip('"')

    def list(self, prefix: str) -> Iterator[Listed]:
        """The objects under a prefix, sorted by key within each page."""
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                yield Listed(item["Key"], item["ETag"].strip('"'), item["Size"], item["LastModified"])

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def share_link(self, key: str, seconds: int = 7 * 24 * 3600) -> str:
        """A link that opens the object in a browser; by default for a week, the longest that S3 allows."""
        request = {"Bucket": self.bucket, "Key": key}
        return str(self._client.generate_presigned_url("get_object", Params=request, ExpiresIn=seconds))

    def head(self, key: str) -> Head | None:
        """The object's metadata; None if it is absent."""
        try:
            return Head.of(key, self._client.head_object(Bucket=self.bucket, Key=key))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise


def open_store() -> Store:
    """The store of the current settings."""
    return Store(load_settings())


def land(store: Store, source: str, key: str, body: bytes) -> None:
    """Write a file to `landing/<source>/<key>`, where ingest finds it."""
    store.put(landing_prefix(source) + key, body)


def references(store: Store, keys: Iterable[str]) -> tuple[ObjectRef, ...]:
    """References of the objects with these keys, sorted by key; absent objects are left out."""
    return tuple(ref for ref in concurrently(store.find, sorted(keys)) if ref is not None)


def concurrently(request: Callable[[_Item], _Answer], items: Iterable[_Item]) -> list[_Answer]:
    """One small request to the store per item, `CONCURRENT_REQUESTS` at a time; returns the answers in order."""
    with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
        return list(pool.map(request, items))
