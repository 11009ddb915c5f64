"""Ingest of landed files, end to end, against DuckDB's plain copy of them to Parquet with the same casts.

    python -m bench.ingest [--rows 1000000] [--times 10]

The copy judges no row, knows no duplicates and writes no records. The object store is a process of its own, whose time
is in the seconds and not in the CPU seconds. Memory is compared with `--times` times the rows.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.measure import ROUNDS, Case, Sample, console, in_fresh_process, median_of, report
from bench.own_stack import static_contract
from liftloop.contract.contract import Contract
from liftloop.contract.files import FileFormat
from liftloop.lake.lake import Lake
from liftloop.landing import validation
from liftloop.landing.ingest import ingest_batch, pending_batches
from liftloop.settings import Settings
from liftloop.stack.standalone_store import standalone_object_store
from liftloop.storage.duckdb import connect, literal
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import Store, land

FORMATS: tuple[FileFormat, ...] = ("parquet", "csv")
ROWS_PER_FILE = 100_000
GOAL, MEMORY_GOAL = 3, 1.2
S3_PORT = 14_410

assert validation.__name__  # imported before the clock starts


def main() -> None:
    arguments = _arguments()
    with (
        tempfile.TemporaryDirectory(prefix="liftloop-bench-") as home,
        standalone_object_store(Settings(home=Path(home), s3_port=S3_PORT)) as settings,
    ):
        cases = [case for kind in FORMATS for case in _cases(settings, kind, arguments.rows, arguments.times)]
    report("ingest", cases, rows=arguments.rows, rounds=ROUNDS)


def _cases(settings: Settings, kind: FileFormat, rows: int, times: int) -> list[Case]:
    samples: dict[Callable[..., None], list[Sample]] = {copy: [], ingest: []}
    for number in range(1, ROUNDS + 1):
        for run, found in samples.items():
            found.append(_measure(settings, run, kind, f"{run.__name__}_{kind}_{number}", rows))
    peer, ours = map(median_of, samples.values())
    larger = _measure(settings, ingest, kind, f"larger_{kind}", times * rows)
    peaks = (larger.peak_bytes / 2**20, ours.peak_bytes / 2**20)
    return [
        Case(f"{kind}: CPU time of {rows:,} rows", ours.cpu_seconds, peer.cpu_seconds, GOAL, "s"),
        Case(f"{kind}: time per row", ours.seconds / rows * 1e6, peer.seconds / rows * 1e6, GOAL, "µs"),
        Case(f"{kind}: peak memory, {times} times the rows", *peaks, MEMORY_GOAL, "MiB"),
    ]


def _measure(settings: Settings, run: Callable[..., None], kind: FileFormat, source: str, rows: int) -> Sample:
    """Files land, and are read by a new process."""
    land_files(Store(settings), kind, source, rows)
    sample = in_fresh_process(partial(run, settings, kind, source))
    figures = f"{sample.seconds:7.2f} s {sample.cpu_seconds:7.2f} s CPU {sample.peak_bytes / 2**20:7,.0f} MiB"
    console.print(f"{source:<20}{figures} {rows / sample.seconds:10,.0f} rows/s")
    return sample


def land_files(store: Store, kind: FileFormat, source: str, rows: int) -> None:
    """A week of impressions, in the columns of the simulated publisher."""
    with tempfile.TemporaryDirectory() as folder, connect(store.settings) as connection:
        path = Path(folder) / "part"
        for first in range(0, rows, ROWS_PER_FILE):
            last = min(first + ROWS_PER_FILE, rows)
            landed = _LANDED.format(first=first, last=last, rows=rows)
            connection.execute(f"COPY ({landed}) TO {literal(path)} (FORMAT {kind})")
            land(store, source, f"{first:09}.{kind}", path.read_bytes())


_LANDED = """
    SELECT i AS imp_id, 1767571200000 + i * 604800000 // {rows} AS ts, 'p' || i % 9 AS slot, 'a' || h % 80 AS creative,
        'c' || h % 20 AS camp, 'v' || h % 10 AS adv, 's' || i % 5 AS site, 'u' || h % 100000 AS uid,
        (1 + h % 1000) / 1001 AS prob, 'CPC' AS pricing, h % 800000 AS bid_micros, (h % 50 = 0)::TINYINT AS clk,
        0::TINYINT AS conv, h % 100000 AS rev_micros, 1000 AS cost_micros, ts + 1800000 AS out_ts, 'uniform' AS pol,
        'g' || h % 4 AS seg, 'd' || h % 3 AS dev,
        (i % 24)::TINYINT AS lh, 'k' || h % 12 AS cat
    FROM (SELECT i, hash(i) >> 8 AS h FROM range({first}, {last}) AS range(i))
"""


def contract_of(kind: FileFormat, source: str) -> Contract:
    """The simulated publisher's contract for files of this format."""
    contract = static_contract()
    landing = contract.landing.model_copy(update={"path": f"{{part}}.{kind}", "format": kind})
    return contract.model_copy(update={"source": source, "landing": landing})


def ingest(settings: Settings, kind: FileFormat, source: str) -> None:
    """What the flow does, without Prefect."""
    lake = Lake(Store(settings), contract_of(kind, source))
    for batch in list(pending_batches(lake)):
        ingest_batch(lake, batch)


def copy(settings: Settings, kind: FileFormat, source: str) -> None:
    """The peer: one statement."""
    store = Store(settings)
    uris = literal(store.uri(f"{landing_prefix(source)}*.{kind}"))
    rows = f"read_csv({uris}, all_varchar = true)" if kind == "csv" else f"read_parquet({uris})"
    target = literal(store.uri(f"copies/{source}.parquet"))
    with connect(settings) as connection:
        connection.execute(f"COPY ({_CANONICAL} FROM {rows}) TO {target} (FORMAT parquet, COMPRESSION zstd)")


_CANONICAL = """
    SELECT imp_id::VARCHAR AS impression_id, make_timestamptz(ts::BIGINT * 1000) AS event_timestamp,
        slot AS placement_id, creative AS ad_id, camp AS campaign_id, adv AS advertiser_id, site AS site_id,
        uid AS user_id, prob::DOUBLE AS propensity, pricing, bid_micros::DOUBLE * 1e-6 AS bid, clk::BIGINT AS click,
        conv::BIGINT AS conversion,
        rev_micros::DOUBLE * 1e-6 AS revenue, cost_micros::DOUBLE * 1e-6 AS cost,
        make_timestamptz(out_ts::BIGINT * 1000) AS outcome_timestamp, pol AS policy,
        seg AS segment, dev AS device, lh::BIGINT AS local_hour, cat AS category
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=10, help="the rows of the memory's case are so many times more")
    return parser.parse_args()


if __name__ == "__main__":
    main()
