"""Where notices of landed objects arrive: POST /landing with the bearer token; GET /health."""

import hmac
import logging
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bridge.mailbox import Mailbox
from bridge.notices import NoticeError, read_notice

LARGEST_BODY_BYTES = 2**20
LONGEST_PASS_SECONDS = 300.0  # of the reconciler, which lists every landing prefix and waits for timeouts

log = logging.getLogger("bridge")


def notice_app(token: str, bucket: str, declared: Callable[[], list[str]], mailbox: Mailbox) -> Starlette:
    """The endpoint. It answers at once; the reconciler acts on notices later, and finds lost ones by its sweeps."""

    async def receive_notice(request: Request) -> JSONResponse:
        _require_token(request, token)
        try:
            notice = read_notice(await _body(request), bucket, declared())
        except NoticeError as error:
            raise HTTPException(400, str(error)) from None
        if notice.sources:
            mailbox.put(notice.sources)
        if odd := notice.not_understood:
            mailbox.records_not_understood += len(odd)
            log.warning("%d of a notice's records not understood; the first: %s", len(odd), odd[0])
        return JSONResponse({"sources": sorted(notice.sources), "not_understood": odd}, 202)

    async def report_health(_request: Request) -> JSONResponse:
        silent_seconds = mailbox.seconds_since_taken()
        is_well = silent_seconds < LONGEST_PASS_SECONDS
        figures = {
            "seconds_since_last_pass": round(silent_seconds),
            "records_not_understood": mailbox.records_not_understood,
        }
        return JSONResponse(figures, 200 if is_well else 503)

    return Starlette(
        routes=[Route("/landing", receive_notice, methods=["POST"]), Route("/health", report_health)],
        exception_handlers={HTTPException: _error_response},
    )


def _require_token(request: Request, token: str) -> None:
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise HTTPException(401, "send Authorization: Bearer and the token in LIFTLOOP_BRIDGE_TOKEN")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY_BYTES:
            raise HTTPException(413, f"a notice has at most {LARGEST_BODY_BYTES} bytes")
    return bytes(body)


async def _error_response(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code)
