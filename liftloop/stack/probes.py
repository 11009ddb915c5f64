"""Readiness of a part, probed the way its clients use it, and what a person has paused."""

from datetime import datetime

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from liftloop.settings import Settings
from liftloop.stack.prefect_api import ask

_ONE_SHORT_TRY = Config(
    connect_timeout=1,
    read_timeout=3,
    retries={"total_max_attempts": 1},
    signature_version="s3v4",
    s3={"addressing_style": "path"},
)


def accepts_writes(url: str, bucket: str, access_key_id: str, secret_access_key: str) -> bool:
    """Whether the object store accepts a signed write: it lists its bucket seconds before it accepts writes."""
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=_ONE_SHORT_TRY,
    )
    try:
        client.put_object(Bucket=bucket, Key=".ready", Body=b"ready")
        client.delete_object(Bucket=bucket, Key=".ready")
    except (BotoCoreError, ClientError):
        return False
    return True


def is_polling(settings: Settings, work_pool: str, since: float) -> bool:
    """Whether a worker of the pool has reported after `since` (epoch seconds)."""
    try:
        workers = ask(settings, f"/work_pools/{work_pool}/workers/filter", {})
    except OSError:  # the server does not answer, or does not know the pool yet
        return False
    last = (datetime.fromisoformat(each["last_heartbeat_time"]) for each in workers if each["status"] == "ONLINE")
    return any(heartbeat.timestamp() >= since for heartbeat in last)


def list_pauses(settings: Settings, work_pool: str) -> list[str]:
    """Sentences on the pool and its queues if a person has paused them, with the remedy; none if the server is away."""
    try:
        pool = ask(settings, f"/work_pools/{work_pool}")
        queues = ask(settings, f"/work_pools/{work_pool}/queues/filter", {})
    except OSError:
        return []
    pauses = [f"the work pool {work_pool} is paused: no run starts. `prefect work-pool resume {work_pool}`"]
    return pauses * bool(pool["is_paused"]) + [
        f"the work queue {queue['name']} is paused: its runs do not start."
        f" `prefect work-queue resume {queue['name']} --pool {work_pool}`"
        for queue in queues
        if queue["is_paused"]
    ]
