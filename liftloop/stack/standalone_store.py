"""The object store without the other parts, for tests and benchmarks."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from liftloop.settings import Settings
from liftloop.stack.addresses import running_settings, write_keys_files
from liftloop.stack.certificate import write_certificate
from liftloop.stack.layout import Credentials, Layout, StackError, write_private
from liftloop.stack.parts import identities_file, object_store, remove_store_sockets
from liftloop.stack.roles import identities

_LIMIT_SECONDS = 60


@contextmanager
def standalone_object_store(settings: Settings) -> Iterator[Settings]:
    """SeaweedFS, ready in about two seconds; the settings point at it and at no Prefect server.

    Raises:
        StackError: it does not start.
    """
    layout = Layout.of(settings)
    layout.create()
    credentials = Credentials.load(layout.credentials_file)
    credentials.write(layout.credentials_file)
    running = running_settings(settings, credentials)
    write_private(identities_file(layout), identities(settings, credentials))
    write_keys_files(running, credentials)
    write_certificate(layout)
    part = object_store(running, layout, credentials)
    log_file = layout.log_file(part.name)
    with log_file.open("w") as log:
        process = subprocess.Popen(part.command, env=os.environ | part.environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _LIMIT_SECONDS
        while not part.is_ready(0.0):
            if time.monotonic() > deadline:
                raise StackError(f"{part.name} did not start: see {log_file}")
            time.sleep(0.1)
        yield running.model_copy(update={"prefect_api_url": None})
    finally:
        process.kill()
        process.wait()
        remove_store_sockets(settings)
