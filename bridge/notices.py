"""Notices of an object store about landed objects: SeaweedFS, MinIO, AWS S3 (also by EventBridge, SNS and SQS)."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_plus

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

_MOST_CHARACTERS_OF_REASON = 300
_MOST_WRAPPERS = 8  # S3 through SNS, SQS and a list of messages has 5

Landed = list[tuple[str, str]]  # bucket and key of each object


class NoticeError(ValueError):
    """No record of the body is of a supported kind; the message says why."""


@dataclass(frozen=True)
class Notice:
    """The declared sources for which something landed, and the reasons why records were not understood."""

    sources: set[str]
    not_understood: tuple[str, ...] = ()


class _Named(BaseModel):
    name: str


class _Keyed(BaseModel):
    key: str


class _BucketAndObject(BaseModel):
    bucket: _Named
    object: _Keyed


class _Record(BaseModel):
    """AWS S3 and MinIO: the key is URL-encoded."""

    eventName: str
    s3: _BucketAndObject

    def landed(self) -> Landed:
        is_made = self.eventName.removeprefix("s3:").startswith("ObjectCreated:")
        return [(self.s3.bucket.name, unquote_plus(self.s3.object.key))] if is_made else []


class _EventBridge(BaseModel):
    """AWS S3 through EventBridge: the key is not encoded."""

    kind: str = Field(alias="detail-type")
    detail: _BucketAndObject

    def landed(self) -> Landed:
        return [(self.detail.bucket.name, self.detail.object.key)] if self.kind == "Object Created" else []


class _SeaweedFS(BaseModel):
    """SeaweedFS: the key is the path in its filer, where buckets are folders."""

    event_type: str
    key: str

    def landed(self) -> Landed:
        _, folder, bucket, key = (*self.key.split("/", 3), "", "", "")[:4]
        return [(bucket, key)] if folder == "buckets" and self.event_type in {"create", "update"} else []


class _Test(BaseModel):
    """The test message that AWS S3 sends when notifications are enabled."""

    Event: Literal["s3:TestEvent"]

    def landed(self) -> Landed:
        return []


_RECORD: TypeAdapter[_Record | _EventBridge | _SeaweedFS | _Test] = TypeAdapter(
    _Record | _EventBridge | _SeaweedFS | _Test
)


def read_notice(body: bytes, bucket: str, declared: Collection[str]) -> Notice:
    """What a notice says about this bucket. A record that is not understood does not hide the others.

    Raises:
        NoticeError: the body is not JSON, or none of its records is of a supported kind.
    """
    records = dict(_records(_parsed(body)))
    landed: Landed = []
    not_understood: list[str] = []
    for place, record in records.items():
        try:
            landed += _RECORD.validate_python(record).landed()
        except ValidationError as error:
            not_understood.append(f"{place}: {_reason(record, error)}")
    if not_understood and len(not_understood) == len(records):
        raise NoticeError(f"not a notice of SeaweedFS, AWS S3 or MinIO: {not_understood[0]}")
    return Notice(_sources(landed, bucket) & {*declared}, tuple(not_understood))


def _sources(landed: Landed, bucket: str) -> set[str]:
    parts = (key.split("/", 2) for in_bucket, key in landed if in_bucket == bucket)
    return {part[1] for part in parts if len(part) == 3 and part[0] == "landing" and part[2][-1:] not in ("", "/")}


def _records(document: Any, place: str = "notice", wrappers: int = 0) -> Iterator[tuple[str, Any]]:
    """The single records, each with its place in the body."""
    inside = _unwrapped(document) if wrappers < _MOST_WRAPPERS else None
    if inside is None:
        yield place, document
        return
    for number, each in enumerate(inside):
        yield from _records(each, f"{place}[{number}]", wrappers + 1)


def _unwrapped(document: Any) -> list[Any] | None:
    """What a list, or a message of SNS or SQS, contains; None: it is a record itself."""
    match document:
        case {"Records": [*inside]} | {"Messages": [*inside]}:  # as a Lambda receives them; as SQS returns them
            return inside
        case [_, *_]:  # as EventBridge Pipes sends them
            return list(document)
        case {"Type": "Notification", "Message": str(text)} | {"Sns": {"Message": str(text)}}:
            return [_parsed(text)]
        case {"body": str(text)} | {"Body": str(text)}:
            return [_parsed(text)]
    return None


def _parsed(text: str | bytes) -> Any:
    """The JSON document, or the text if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _reason(record: Any, error: ValidationError) -> str:
    match record:
        case str() | bytes():
            return "it is not JSON"
        case {"Type": "SubscriptionConfirmation", "SubscribeURL": url}:
            return f"SNS waits until the subscription is confirmed: open {url}"
    problems = {problem["msg"] for problem in error.errors(include_input=False, include_url=False)}
    return "; ".join(sorted(problems))[:_MOST_CHARACTERS_OF_REASON]
