"""Each store's way to say that something landed, and all that is no such thing."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from bridge.app import LARGEST_BODY_BYTES, notice_app
from bridge.mailbox import Mailbox
from bridge.notices import Notice, NoticeError, read_notice


def seaweed(key: str, event: str = "create") -> dict[str, object]:
    return {"event_type": event, "key": key, "message": {"new_entry": {"name": key.rsplit("/", 1)[-1]}}}


def aws(key: str, event: str = "ObjectCreated:Put", bucket: str = "logs") -> dict[str, object]:
    s3 = {"bucket": {"name": bucket, "arn": "…"}, "object": {"key": key, "eTag": "d41d", "size": 3}}
    return {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": event, "s3": s3}]}


def minio(key: str, event: str = "s3:ObjectCreated:Put") -> dict[str, object]:
    return {"EventName": event, "Key": f"logs/{key}", **aws(key, event)}


def event_bridge(key: str, kind: str = "Object Created") -> dict[str, object]:
    return {"source": "aws.s3", "detail-type": kind, "detail": {"bucket": {"name": "logs"}, "object": {"key": key}}}


def sns(message: object) -> dict[str, object]:
    """As SNS posts it to an HTTP endpoint and, without raw delivery, puts it into a queue."""
    return {"Type": "Notification", "MessageId": "1", "TopicArn": "arn:…", "Message": json.dumps(message)}


def sqs(*bodies: object) -> dict[str, object]:
    """As SQS gives messages to a Lambda."""
    records = [{"messageId": "1", "eventSource": "aws:sqs", "body": json.dumps(body)} for body in bodies]
    return {"Records": records}


def received(*bodies: object) -> dict[str, object]:
    """As ReceiveMessage of SQS answers."""
    return {"Messages": [{"MessageId": "1", "ReceiptHandle": "…", "Body": json.dumps(body)} for body in bodies]}


def sns_to_lambda(message: object) -> dict[str, object]:
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"Type": "Notification", "Message": json.dumps(message)}}]}


def read(notice: object) -> Notice:
    return read_notice(json.dumps(notice).encode(), "logs", ["shop", "web"])


def found(notice: object) -> set[str]:
    assert read(notice).not_understood == ()
    return read(notice).sources


@pytest.mark.parametrize(
    "notice",
    [
        seaweed("/buckets/logs/landing/shop/2026/a.csv"),
        seaweed("/buckets/logs/landing/shop/a.csv", "update"),
        aws("landing/shop/2026/a.csv"),
        aws("landing/shop/a%2Bb+c.csv", "ObjectCreated:CompleteMultipartUpload"),
        aws("landing%2Fshop%2Fa.csv"),
        minio("landing%2Fshop%2Fa.csv"),
        event_bridge("landing/shop/100%25.csv"),
        [event_bridge("landing/shop/a.csv")],
        sns(aws("landing/shop/a%2Bb.csv")),
        sns(event_bridge("landing/shop/a.csv")),
        sns_to_lambda(aws("landing/shop/a.csv")),
        sqs(aws("landing/shop/a.csv")),
        sqs(event_bridge("landing/shop/a.csv")),
        sqs(sns(aws("landing/shop/a.csv"))),
        received(sns(aws("landing/shop/a.csv"))),
        [{"messageId": "1", "body": json.dumps(aws("landing/shop/a.csv"))}],
    ],
)
def test_a_landed_object_names_its_source(notice: object) -> None:
    assert found(notice) == {"shop"}


@pytest.mark.parametrize(
    "notice",
    [
        seaweed("/buckets/logs/landing/shop/a.csv", "delete"),
        seaweed("/buckets/logs/landing/shop/folder/"),
        seaweed("/buckets/logs/landing/shop"),  # the source's own folder
        seaweed("/buckets/logs/landing/shop/"),
        seaweed("/buckets/logs/lake/shop/a.parquet"),
        seaweed("/buckets/other/landing/shop/a.csv"),
        seaweed("/buckets/logs/landing/unknown/a.csv"),
        seaweed("/topics/logs/landing/shop/a.csv"),
        aws("landing/shop/a.csv", "ObjectRemoved:Delete"),
        aws("landing/shop/a.csv", bucket="other"),
        minio("landing/shop/a.csv", "s3:ObjectRemoved:Delete"),
        event_bridge("landing/shop/a.csv", "Object Deleted"),
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "logs"},
        {"Records": []},
        sns({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "logs"}),
        sqs(sns(aws("landing/shop/a.csv", "ObjectRemoved:Delete"))),
    ],
)
def test_all_else_is_ignored(notice: object) -> None:
    assert found(notice) == set()


def test_one_notice_may_tell_of_many_objects() -> None:
    records = [aws(f"landing/{source}/a.csv")["Records"][0] for source in ("shop", "web", "shop")]  # type: ignore[index]
    assert found({"Records": records}) == {"shop", "web"}


def test_one_odd_record_does_not_hide_the_good_ones() -> None:
    good, other = (aws(f"landing/{source}/a.csv")["Records"][0] for source in ("shop", "web"))  # type: ignore[index]
    notice = read({"Records": [good, {"eventName": "ObjectCreated:Put"}, other]})
    assert notice.sources == {"shop", "web"}
    (reason,) = notice.not_understood
    assert reason.startswith("notice[1]: Field required")
    notice = read(sqs(aws("landing/shop/a.csv"), "no notice", sns(aws("landing/web/a.csv"))))
    assert (notice.sources, notice.not_understood) == ({"shop", "web"}, ("notice[1][0]: it is not JSON",))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a": 1}', b'{"Records": [{}]}', b'{"event_type": 3, "key": []}'])
def test_what_is_no_notice_is_refused_with_a_reason(body: bytes) -> None:
    with pytest.raises(NoticeError, match=r"not a notice of SeaweedFS, AWS S3 or MinIO: notice.*: "):
        read_notice(body, "logs", ["shop"])


@pytest.mark.parametrize("body", [b"[" * 100_000, b'[{"Records": ' * 500 + b"[1]" + b"}]" * 500])
def test_what_is_nested_without_end_is_refused(body: bytes) -> None:
    with pytest.raises(NoticeError):
        read_notice(body, "logs", ["shop"])


def test_a_subscription_that_waits_for_its_confirmation_is_said() -> None:
    asks = {"Type": "SubscriptionConfirmation", "SubscribeURL": "https://sns/confirm", "Token": "t"}
    with pytest.raises(NoticeError, match="SNS waits until the subscription is confirmed: open https://sns/confirm"):
        read(asks)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(mailbox: Mailbox) -> Ask:
    """Sends the endpoint one request."""
    transport = httpx.ASGITransport(app=notice_app("token", "logs", lambda: ["shop"], mailbox))

    async def request(method: str, path: str, **more: object) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://bridge") as client:
            return await client.request(method, path, **more)  # type: ignore[arg-type]

    return lambda *arguments, **more: asyncio.run(request(*arguments, **more))


BEARER = {"Authorization": "Bearer token"}
LANDED = json.dumps(seaweed("/buckets/logs/landing/shop/a.csv")).encode()


def test_a_notice_is_taken(ask: Ask, mailbox: Mailbox) -> None:
    for _ in range(3):
        assert ask("POST", "/landing", content=LANDED, headers=BEARER).status_code == 202
    assert mailbox.take(0) == {"shop"}
    assert mailbox.take(0) == set()


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Bearer Token"}])
def test_who_does_not_bear_the_token_is_turned_away(ask: Ask, mailbox: Mailbox, headers: dict[str, str]) -> None:
    assert ask("POST", "/landing", content=LANDED, headers=headers).status_code == 401
    assert mailbox.take(0) == set()


def test_what_is_malformed_or_too_large_is_refused(ask: Ask) -> None:
    answer = ask("POST", "/landing", content=b"{", headers=BEARER)
    assert answer.status_code == 400
    assert "not a notice" in answer.json()["detail"]
    assert ask("POST", "/landing", content=b" " * (LARGEST_BODY_BYTES + 1), headers=BEARER).status_code == 413


def test_an_odd_record_is_said_and_counted(ask: Ask, mailbox: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    body = json.dumps([aws("landing/shop/a.csv"), {"odd": 1}]).encode()
    answer = ask("POST", "/landing", content=body, headers=BEARER)
    assert (answer.status_code, mailbox.take(0)) == (202, {"shop"})
    assert len(answer.json()["not_understood"]) == 1
    assert "1 of a notice's records not understood; the first: notice[1]: " in caplog.text
    assert ask("GET", "/health").json()["records_not_understood"] == 1


def test_health_needs_no_token(ask: Ask) -> None:
    assert ask("GET", "/health").status_code == 200
