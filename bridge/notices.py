"""Notices of an object store about landed objects: SeaweedFS, AWS S3 (also through EventBridge) and MinIO."""

from collections.abc import Collection
from typing import Literal
from urllib.parse import unquote_plus

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

_MOST_CHARACTERS_OF_REASON = 300


class NoticeError(ValueError):
    """The body is not a notice of a supported kind; the message says why."""


class _Named(BaseModel):
    name: str


class _Keyed(BaseModel):
    key: str


class _BucketAndObject(BaseModel):
    bucket: _Named
    object: _Keyed


class _Record(BaseModel):
    eventName: str
    s3: _BucketAndObject


class _Records(BaseModel):
    """AWS S3 and MinIO: the key is URL-encoded."""

    Records: list[_Record]

    def landed(self) -> list[tuple[str, str]]:
        made = (each.s3 for each in self.Records if each.eventName.removeprefix("s3:").startswith("ObjectCreated:"))
        return [(s3.bucket.name, unquote_plus(s3.object.key)) for s3 in made]


class _EventBridge(BaseModel):
    """AWS S3 through EventBridge: the key is not encoded."""

    kind: str = Field(alias="detail-type")
    detail: _BucketAndObject

    def landed(self) -> list[tuple[str, str]]:
        return [(self.detail.bucket.name, self.detail.object.key)] if self.kind == "Object Created" else []


class _SeaweedFS(BaseModel):
    """SeaweedFS: the key is the path in its filer, where buckets are folders."""

    event_type: str
    key: str

    def landed(self) -> list[tuple[str, str]]:
        _, folder, bucket, key = (*self.key.split("/", 3), "", "", "")[:4]
        return [(bucket, key)] if folder == "buckets" and self.event_type in {"create", "update"} else []


class _Test(BaseModel):
    """The test message that AWS S3 sends when notifications are enabled."""

    Event: Literal["s3:TestEvent"]

    def landed(self) -> list[tuple[str, str]]:
        return []


_NOTICE: TypeAdapter[_Records | _EventBridge | _SeaweedFS | _Test] = TypeAdapter(
    _Records | _EventBridge | _SeaweedFS | _Test
)


def sources_in(body: bytes, bucket: str, declared: Collection[str]) -> set[str]:
    """The declared sources for which something landed in this bucket.

    Raises:
        NoticeError: the body is not JSON, or not of a supported kind.
    """
    try:
        landed = _NOTICE.validate_json(body).landed()
    except ValidationError as error:
        problems = {problem["msg"] for problem in error.errors(include_input=False, include_url=False)}
        raise NoticeError(
            "not a notice of SeaweedFS, AWS S3 or MinIO: " + "; ".join(sorted(problems))[:_MOST_CHARACTERS_OF_REASON]
        ) from None
    parts = (key.split("/", 2) for in_bucket, key in landed if in_bucket == bucket)
    return {part[1] for part in parts if len(part) == 3 and part[0] == "landing" and part[2][-1:] not in ("", "/")} & {
        *declared
    }
