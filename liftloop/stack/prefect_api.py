"""Single requests to the Prefect server's API, without Prefect's client, which takes seconds to import."""

import base64
import json
import urllib.request
import uuid
from typing import Any
from urllib.error import HTTPError

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from liftloop.settings import Settings

_LIMIT_SECONDS = 10


def ask(settings: Settings, path: str, body: object = None, method: str | None = None) -> Any:
    """The JSON response to a GET of `path`, to a POST if there is a body, or to `method`; None if it is empty.

    Raises:
        OSError: the server does not answer, or answers with an error (urllib.error.HTTPError).
    """
    if body is None and method is None:
        return _answer(settings, path, {})
    # https://docs.prefect.io/v3/advanced/security-settings#csrf-protection-settings
    client = str(uuid.uuid4())
    token = _answer(settings, f"/csrf-token?client={client}", {})["token"]
    headers = {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}
    return _answer(settings, path, headers, json.dumps(body), method)


def _is_busy(error: BaseException) -> bool:
    """Whether Prefect answered 503: its database was locked, and the request had no effect."""
    return isinstance(error, HTTPError) and error.code == 503


@retry(
    retry=retry_if_exception(_is_busy), stop=stop_after_attempt(6), wait=wait_random_exponential(0.5, 5), reraise=True
)
def _answer(
    settings: Settings, path: str, headers: dict[str, str], body: str | None = None, method: str | None = None
) -> Any:
    password = settings.prefect_auth.get_secret_value() if settings.prefect_auth else ""
    basic = {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
    request = urllib.request.Request(
        f"{settings.prefect_api_url}{path}",
        data=body.encode() if body else None,
        headers={"Content-Type": "application/json", **basic, **headers},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=_LIMIT_SECONDS) as answer:
        text = answer.read()
        return json.loads(text) if text else None
