"""One cell of the matrix: files land, one fault strikes at one point, and nobody touches anything."""

import time
from collections.abc import Callable
from contextlib import suppress

from faults.loop import Loop, Outcome, wait_until
from faults.proxy import Point
from faults.strikes import Strike

LIMIT_SECONDS = 300

# Where to strike, by what the flows write or read next; after the store has done it, unless it says otherwise.
LANDING = Point("landing", "PUT", "landing/.+/3.parquet")
LAKE = Point("lake file", "PUT", "lake/.+")
LEDGER = Point("ledger entry", "PUT", "ledger/.+/ingested/.+")
TILES = Point("tiles", "PUT", "tiles/.+")
FEATURES = Point("feature table", "PUT", "features/[^/]+/[^/]+_id/.+")
ONLINE = Point("online store", "PUT", "features/[^/]+/materialized.json", "before")
FRAME = Point("frame", "PUT", "features/.+/frames/days/.+/day.json")  # of the first day
FIT = Point("fit", "PUT", "registry/.+/trials/.+")  # the search has ended, and the Dask workers are about to fit
VERSION = Point("version", "PUT", "registry/.+/versions/.+")
CARD = Point("model card", "PUT", "reports/.+/models/.+")
PROMOTION = Point("before promotion", "PUT", "registry/.+/champion.json", "before")
CHAMPION = Point("after promotion", "PUT", "registry/.+/champion.json", "after")
AUDIT = Point("audit entry", "PUT", "audit/.+", "before")


def undisturbed(loop: Loop) -> Outcome:
    """What the loop comes to when nothing strikes."""
    loop.reset()
    loop.land()
    wait_until(lambda: not loop.faults(), LIMIT_SECONDS)
    return loop.outcome()


def recover(
    loop: Loop, reference: Outcome, strike: Strike, point: Point, record: Callable[[str, object], None]
) -> list[str]:
    """What is wrong in the end, in words; a row of the table goes to `record`."""
    loop.reset()
    said: list[str] = []
    armed = loop.proxy.arm(point, lambda: said.append(strike(loop)))
    loop.land()
    assert armed.is_over.wait(LIMIT_SECONDS), f"nothing came by {point}"
    assert said, "there was nobody to strike"
    began = time.monotonic()
    with suppress(TimeoutError):
        wait_until(lambda: not loop.wrong(reference), LIMIT_SECONDS)
    took = f"{time.monotonic() - began:.0f}"
    record("cell", [strike.__name__, point.name, *said, took, str(loop.resubmissions())])
    return loop.wrong(reference)
