"""The object store: one S3 bucket. Every object we write carries its SHA-256 and, if derived, its fingerprint."""

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
    """Someone else changed the object first; read it again and decide anew."""


@dataclass(frozen=True, order=True)
class ObjectRef:
    """One object as it was when it was read or written: what manifests list."""

    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Listed:
    """One object of a listing. The etag names the version that was seen."""

    key: str
    etag: str
    size_bytes: int
    modified: datetime


@dataclass(frozen=True)
class Head:
    """What the store says of one version of an object. `sha256` is empty where somebody else wrote it."""

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
        """From S3's answer to HEAD or GET."""
        metadata, etag = answer["Metadata"], answer["ETag"].strip('"')
        written_with = metadata.get("sha256", ""), metadata.get("fingerprint")
        return cls(key, etag, answer["ContentLength"], *written_with)


@dataclass(frozen=True)
class Store:
    """One bucket of an S3-compatible store. `attempts`: how often a request is sent to a store that does not answer."""

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
        """The same bucket under the keys of a role, where we have any; else under our own."""
        return replace(self, settings=self.settings.as_role(role))

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def put(self, key: str, body: bytes, *, fingerprint: str | None = None) -> ObjectRef:
        """Write an object whole. `fingerprint` says from which inputs it was derived."""
        return self.put_version(key, body, fingerprint=fingerprint)[0]

    def put_version(self, key: str, body: bytes, *, fingerprint: str | None = None) -> tuple[ObjectRef, str]:
        """The same, with the etag that names this version in listings."""
        ref = ObjectRef(key, sha256_of(body), len(body))
        metadata = {"sha256": ref.sha256} | ({"fingerprint": fingerprint} if fingerprint else {})
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        answer = self._client.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=metadata, ContentType=kind)
        return ref, answer["ETag"].strip('"')

    def put_blob(self, body: bytes, suffix: str = "") -> ObjectRef:
        """Write an immutable artifact under its own hash; the same bytes are stored once."""
        digest = sha256_of(body)
        ref = ObjectRef(blob_key(digest, suffix), digest, len(body))
        return ref if self.find(ref.key) == ref else self.put(ref.key, body)  # what was changed is written anew

    def get(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            KeyError: there is no such object.
        """
        return self.get_version(key)[0]

    def get_version(self, key: str) -> tuple[bytes, Head]:
        """The object's bytes, and which version of it they are: hand its etag to `swap`.

        Raises:
            KeyError: there is no such object.
        """
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
        except self._client.exceptions.NoSuchKey:
            raise KeyError(f"no object {self.uri(key)}") from None
        return answer["Body"].read(), Head.of(key, answer)

    def get_verified(self, ref: ObjectRef) -> bytes:
        """The object's bytes, checked against the hash that a manifest or pointer holds.

        Raises:
            KeyError: there is no such object.
            ValueError: its bytes are not those that were written.
        """
        body = self.get(ref.key)
        if sha256_of(body) != ref.sha256:
            raise ValueError(f"{self.uri(ref.key)} was changed: SHA-256 is not {ref.sha256}")
        return body

    def download(self, key: str, path: Path) -> ObjectRef:
        """Copy an object to a local file and hash it on the way."""
        body = self.get(key)
        path.write_bytes(body)
        return ObjectRef(key, sha256_of(body), len(body))

    def find(self, key: str) -> ObjectRef | None:
        """The object's reference by its own metadata, without reading it; None if it is absent or not ours."""
        head = self.head(key)
        return head.ref if head and head.sha256 else None

    def fingerprint(self, key: str) -> str | None:
        """The fingerprint that the object was written with; None if it is absent or has none."""
        head = self.head(key)
        return head.fingerprint if head else None

    def swap(self, key: str, body: bytes, *, expected_etag: str | None) -> str:
        """Replace the object only if it is still the expected version (None: only if absent); returns the new etag.

        Raises:
            SwapConflict: it is not.
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
        """A link that opens the object in a browser for as long as S3 allows."""
        request = {"Bucket": self.bucket, "Key": key}
        return str(self._client.generate_presigned_url("get_object", Params=request, ExpiresIn=seconds))

    def head(self, key: str) -> Head | None:
        """What the store says of an object without its bytes; None if it is absent."""
        try:
            return Head.of(key, self._client.head_object(Bucket=self.bucket, Key=key))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise


def open_store() -> Store:
    """The store that the settings in force here point at."""
    return Store(load_settings())


def land(store: Store, source: str, key: str, body: bytes) -> None:
    """Put a file where ingest looks for it: `landing/<source>/<key>`."""
    store.put(landing_prefix(source) + key, body)


def references(store: Store, keys: Iterable[str]) -> tuple[ObjectRef, ...]:
    """References of objects that we wrote, sorted by key."""
    return tuple(ref for ref in concurrently(store.find, sorted(keys)) if ref is not None)


def concurrently(ask: Callable[[_Item], _Answer], items: Iterable[_Item]) -> list[_Answer]:
    """One small request to the store for each item, several in flight; the answers in order."""
    with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
        return list(pool.map(ask, items))
