"""Training on Dask workers: against plain XGBoost, by number of workers, out of core, and with a worker killed.

    python -m bench.dask [--rows 2000000] [--rounds 150] [--memory-mib 768]

Both sides read the same Parquet partitions from the object store, which uses the same cores. Workers are up before the
clock starts, as they are after a search. The set of the out-of-core case is four times as large, as float32, as the
memory of all workers; beyond it Dask's nanny would end them. It repeats a few partitions, each read every time.
"""

# mypy: allow-untyped-calls

import argparse
import io
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from threading import Timer
from time import perf_counter
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost
from distributed import Client
from scipy.special import expit

from bench.measure import ROUNDS, Case, console, in_fresh_process, peak_bytes, report
from bench.scale_out import one_core_workers
from liftloop.compute.cluster import open_client, worker_addresses
from liftloop.compute.compute import Workers
from liftloop.model.encoder import Encoder
from liftloop.settings import Settings
from liftloop.stack.standalone_store import standalone_object_store
from liftloop.storage.store import ObjectRef, Store
from liftloop.training.boosting import BINS, Parameters, Recipe
from liftloop.training.fit import fit
from liftloop.training.frame import FramePart

S3_PORT = 14_240
COLUMNS, PARTITIONS = 30, 16
WIDE_COLUMNS, WIDE_ROWS, WIDE_PARTITIONS, WIDE_ROUNDS = 256, 10_000, 8, 5
TIMES_MEMORY = 4
PARAMETERS: Parameters = {"max_depth": 6, "eta": 0.1, "min_child_weight": 5}
RATE = 0.1  # of clicks, about
PLAIN, ONE, TWO = "plain XGBoost, 2 threads", "1 worker of one core", "2 workers"
LONG_ROUNDS = 800  # of the fit in which a worker is killed: what a new one costs, some seconds, does not grow with it
SLOW: Parameters = PARAMETERS | {"eta": 0.01}  # so that it does not stop early


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="liftloop-") as home, ExitStack() as stack:
        settings = stack.enter_context(
            standalone_object_store(Settings(home=Path(home), s3_port=S3_PORT, dask_workers=2))
        )
        bench = _Fits.generated(settings, arguments.rows, arguments.rounds)
        seconds, log_losses = bench.take_turns()
        undisturbed, killed = bench.kill_one()
        peak, limit, set_bytes, out_of_core_seconds = _out_of_core(settings, arguments.memory_mib * 2**20)
    rates = {name: arguments.rows / each for name, each in seconds.items()}
    cases = [
        Case(f"{TWO} vs {PLAIN}", seconds[TWO], seconds[PLAIN], 1.1, "s"),
        Case("2 one-core workers vs one", rates[TWO], rates[ONE], 1.7, "rows/s", is_rate=True),
        Case("log loss apart from plain XGBoost", abs(log_losses[TWO] - log_losses[PLAIN]), 1e-4, 1.0, "nats"),
        Case(f"peak memory at a set {TIMES_MEMORY} times the limit", peak / 2**20, limit / 2**20, 1.0, "MiB"),
        Case("a worker killed half-way vs undisturbed", killed, undisturbed, 1.3, "s"),
    ]
    details = {"set_mib": set_bytes // 2**20, "out_of_core_seconds": round(out_of_core_seconds, 1)}
    report("dask", cases, rounds=ROUNDS, rows=arguments.rows, boosting_rounds=arguments.rounds, **details)


@dataclass(frozen=True)
class _Fits:
    """The same rows and parameters, fitted by everyone in turn."""

    settings: Settings
    recipe: Recipe
    training: FramePart
    validation: FramePart
    parameters: Parameters = field(default_factory=lambda: PARAMETERS)

    @classmethod
    def generated(cls, settings: Settings, rows: int, rounds: int) -> Self:
        each = rows // PARTITIONS
        training = _put_part(settings, "training", COLUMNS, each, range(PARTITIONS - 2))
        validation = _put_part(settings, "validation", COLUMNS, each, range(PARTITIONS - 2, PARTITIONS))
        return cls(settings, _recipe(settings, COLUMNS, rounds), training, validation)

    def take_turns(self) -> tuple[dict[str, float], dict[str, float]]:
        """Median seconds and log loss of each."""
        seconds: dict[str, list[float]] = {PLAIN: [], ONE: [], TWO: []}
        log_losses: dict[str, float] = {}
        for number in range(1, ROUNDS + 1):
            for name, taken in seconds.items():
                spent, log_losses[name] = self._plain() if name == PLAIN else self._on_workers(name)
                taken.append(spent)
                console.print(f"round {number}  {name:<28} {spent:7.2f} s  log loss {log_losses[name]:.6f}")
        return {name: median(taken) for name, taken in seconds.items()}, log_losses

    def _plain(self) -> tuple[float, float]:
        with tempfile.NamedTemporaryFile() as answer:
            sample = in_fresh_process(partial(_fit_plain, self.recipe, self.training, self.validation, answer.name))
            return sample.seconds, float(Path(answer.name).read_text())

    def kill_one(self) -> tuple[float, float]:
        """Seconds of a longer fit on two workers: undisturbed, and with one of them killed half-way."""
        longer = replace(self, recipe=replace(self.recipe, maximum_rounds=LONG_ROUNDS), parameters=SLOW)
        undisturbed, expected = longer._on_workers(TWO)
        killed, found = longer._on_workers(TWO, kill_after_seconds=undisturbed / 2)
        assert found == expected, "the model changed"
        console.print(f"{LONG_ROUNDS} rounds: undisturbed {undisturbed:.2f} s, a worker killed {killed:.2f} s")
        return undisturbed, killed

    def _on_workers(self, name: str, kill_after_seconds: float | None = None) -> tuple[float, float]:
        with _one_worker(self.settings) if name == ONE else _two_workers(self.settings) as client:
            workers = Workers(client, len(worker_addresses(client)))
            fit(workers, _recipe(self.settings, COLUMNS, 1), PARAMETERS, self.validation, self.validation)
            victim = client.run(os.getpid)[worker_addresses(client)[-1]]
            started = perf_counter()
            if kill_after_seconds:
                Timer(kill_after_seconds, os.kill, (victim, signal.SIGKILL)).start()
            booster = fit(workers, self.recipe, self.parameters, self.training, self.validation)
            return perf_counter() - started, booster.best_score


def _fit_plain(recipe: Recipe, training: FramePart, validation: FramePart, answer: str) -> None:
    """What one would write by hand."""
    store, names = Store(recipe.settings), recipe.encoder.columns
    matrices: list[xgboost.QuantileDMatrix] = []
    for part in (training, validation):
        table = pa.concat_tables(pq.read_table(io.BytesIO(store.get(ref.key))) for ref in part.partitions)
        values = np.column_stack([table[name].to_numpy() for name in names])
        ref = matrices[0] if matrices else None
        matrices.append(xgboost.QuantileDMatrix(values, table["click"].to_numpy(), max_bin=BINS, nthread=2, ref=ref))
    options = recipe.train_options(PARAMETERS | {"nthread": 2})
    early = {"evals": [(matrices[1], "validation")], "early_stopping_rounds": 15, "verbose_eval": False}
    booster = xgboost.train(options, matrices[0], recipe.maximum_rounds, **early)
    Path(answer).write_text(str(booster.best_score))


@contextmanager
def _one_worker(settings: Settings) -> Iterator[Client]:
    with one_core_workers(1, settings) as scheduled, open_client(scheduled) as client:
        yield client


@contextmanager
def _two_workers(settings: Settings) -> Iterator[Client]:
    """Our own local cluster, each worker on a core of its own."""
    with open_client(settings) as client:
        for address, core in zip(worker_addresses(client), sorted(os.sched_getaffinity(0)), strict=False):
            client.run(_pin, core, workers=[address])
        yield client


def _pin(core: int) -> None:
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {core})


def _out_of_core(settings: Settings, worker_memory_bytes: int) -> tuple[int, int, int, float]:
    """Peak and limit of the workers' memory together, bytes of the set as float32, and seconds."""
    limit_bytes = 2 * worker_memory_bytes
    numbers = range(TIMES_MEMORY * limit_bytes // (4 * WIDE_COLUMNS * WIDE_ROWS) + 1)
    validation = _put_part(settings, "wide-validation", WIDE_COLUMNS, WIDE_ROWS, range(1))
    few = _put_part(settings, "wide", WIDE_COLUMNS, WIDE_ROWS, range(1, 1 + WIDE_PARTITIONS))
    partitions = tuple(few.partitions[number % WIDE_PARTITIONS] for number in numbers)
    training = few.model_copy(update={"partitions": partitions, "rows": len(partitions) * WIDE_ROWS})
    limited = settings.model_copy(update={"dask_worker_memory_bytes": worker_memory_bytes})
    with open_client(limited) as client:
        started = perf_counter()
        recipe = _recipe(settings, WIDE_COLUMNS, WIDE_ROUNDS)
        fit(Workers(client, len(worker_addresses(client))), recipe, PARAMETERS, training, validation)
        seconds = perf_counter() - started
        peak = sum(client.run(peak_bytes).values())
    set_bytes = 4 * WIDE_COLUMNS * training.rows
    console.print(f"out of core: {set_bytes / 2**20:,.0f} MiB in {peak / 2**20:,.0f} MiB, {seconds:.1f} s")
    return peak, limit_bytes, set_bytes, seconds


def _recipe(settings: Settings, columns: int, rounds: int) -> Recipe:
    encoder = Encoder(categories={}, numbers=tuple(f"number_{n:03}" for n in range(columns)))
    return Recipe(settings, encoder, "click", reward_rate=RATE, maximum_rounds=rounds, seed=7)


def _put_part(settings: Settings, name: str, columns: int, rows: int, seeds: range) -> FramePart:
    store, start = Store(settings), datetime(2026, 1, 1, tzinfo=UTC)
    partitions = tuple(_put_partition(store, f"{name}-{seed:03}", columns, rows, seed) for seed in seeds)
    return FramePart(start=start, end=start, rows=rows * len(seeds), rewards=0, partitions=partitions)


def _put_partition(store: Store, name: str, columns: int, rows: int, seed: int) -> ObjectRef:
    """Numbers of a thousand values, and clicks that depend on the first five of them."""
    random = np.random.default_rng(seed)
    values = random.integers(0, 1000, (columns, rows)).astype(np.float32) / 1000
    logit = 3 * values[0] * values[1] + 2 * (values[2] > 0.7) - values[3] - 3 + (values[4] - 0.5) ** 2
    click = (random.random(rows) < expit(logit)).astype(np.float32)
    table = pa.table({f"number_{n:03}": column for n, column in enumerate(values)} | {"click": click})
    body = io.BytesIO()
    pq.write_table(table, body)
    return store.put(f"features/bench/{name}.parquet", body.getvalue())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=150, help="of boosting, at most")
    parser.add_argument("--memory-mib", type=int, default=768, help="of each worker, out of core")
    return parser.parse_args()


if __name__ == "__main__":
    main()
