"""`python -m bridge`: receives notices, sweeps and reaps until SIGTERM."""

import logging
import os
import signal
import socket
import sys
from threading import Thread
from types import FrameType

import uvicorn
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from bridge.app import notice_app
from bridge.mailbox import Mailbox
from bridge.reaper import Reaper
from bridge.reconciler import Reconciler
from bridge.runs import FlowRuns
from liftloop.contract.loading import declared_sources
from liftloop.errors import UserError
from liftloop.settings import Settings, SettingsError, load_settings
from liftloop.storage.store import Store

HOST = "127.0.0.1"

log = logging.getLogger("bridge")


def main() -> None:
    """Never returns. SIGTERM ends it at once, between any two lines; the next bridge completes what is half done."""
    signal.signal(signal.SIGTERM, _stop)
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(asctime)s %(message)s", force=True)
    log.setLevel(logging.INFO)
    settings = load_settings()
    mailbox = Mailbox()
    _listen(settings, mailbox)
    if PREFECT_API_URL.value() is None:
        raise SettingsError("PREFECT_API_URL is not set: the bridge needs a Prefect server")
    store = Store(settings)
    # Prefect's client would block a pass for a minute while the server is down; the next pass is our retry.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}), get_client(sync_client=True) as client:
        log.info("sweeping s3://%s/landing/ for %s", settings.bucket, PREFECT_API_URL.value())
        Reconciler(store, FlowRuns(client), Reaper(client, store), mailbox).run()


def _listen(settings: Settings, mailbox: Mailbox) -> None:
    """Receive notices in a separate thread. The port is bound here, so that a second bridge fails with an error."""
    if settings.bridge_token is None:
        raise SettingsError("LIFTLOOP_BRIDGE_TOKEN is not set: `liftloop up` generates one")
    try:
        listener = socket.create_server((HOST, settings.bridge_port))
    except OSError as error:
        raise SettingsError(
            f"LIFTLOOP_BRIDGE_PORT={settings.bridge_port}: {error.strerror}; is another bridge running?"
        ) from None
    app = notice_app(settings.bridge_token.get_secret_value(), settings.bucket, declared_sources, mailbox)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    log.info("stopping")
    os._exit(0)  # a normal exit would wait for the threads of Prefect's client


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
