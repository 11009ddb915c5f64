"""Fits on real workers: lost, stuck, without rows. Each comes to the bytes of a fit in one process, or says why."""

# mypy: allow-untyped-calls

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event, Thread, Timer
from time import monotonic

import pytest
from distributed import Worker
from lib.fit_parts import make_recipe, put_part
from lib.waits import until

from liftloop.compute.cluster import WorkersLostError, open_client, worker_addresses
from liftloop.compute.compute import OneProcess, Workers
from liftloop.settings import Settings
from liftloop.storage.store import Store
from liftloop.training import distributed
from liftloop.training.boosting import Parameters
from liftloop.training.distributed import fit_on_workers
from liftloop.training.fit import fit
from liftloop.training.frame import FramePart

PARAMETERS: Parameters = {"max_depth": 4, "eta": 0.2, "colsample_bytree": 0.6}
fit_closely = partial(fit_on_workers, checkpoint_seconds=0)  # a checkpoint after every round
ENDLESS: Parameters = {"max_depth": 2, "eta": 1e-6}  # so slow that it never stops improving


@pytest.fixture
def victims(object_store: Settings) -> Iterator[Workers]:
    """Two of a cluster of their own: what is done to them is felt by nobody else."""
    with open_client(object_store) as client:
        yield Workers(client, 2)


@pytest.fixture(scope="module")
def workers(object_store: Settings) -> Iterator[Workers]:
    with open_client(object_store) as client:
        yield Workers(client, len(worker_addresses(client)))


@pytest.fixture(scope="module")
def training(object_store: Settings) -> FramePart:
    return put_part(Store(object_store), "training", [1500, 900, 2100, 1200], seed=1)


@pytest.fixture(scope="module")
def validation(object_store: Settings) -> FramePart:
    return put_part(Store(object_store), "validation", [800, 700], seed=50)


@contextmanager
def strike(
    workers: Workers, sign: signal.Signals, is_time: Callable[[], bool], has_struck: Event | None = None
) -> Iterator[None]:
    """Sends the signal to one of the workers as soon as it is time, which must come before the block ends."""
    victim = next(iter(workers.client.run(os.getpid).values()))
    has_struck, is_over = has_struck or Event(), Event()

    def wait_and_strike() -> None:
        while not is_time():
            if is_over.wait(0.01):
                return
        os.kill(victim, sign)
        has_struck.set()

    thread = Thread(target=wait_and_strike, daemon=True)
    thread.start()
    try:
        yield
    except WorkersLostError as error:
        if not has_struck.is_set():
            pytest.fail(f"the fit ended before it was time to strike: {error}")
        raise
    finally:
        is_over.set()
        thread.join()
    assert has_struck.is_set(), "the fit ended before it was time to strike"


def kill_one(workers: Workers) -> None:
    """Returns when the scheduler knows of it."""
    before = set(worker_addresses(workers.client))
    os.kill(next(iter(workers.client.run(os.getpid).values())), signal.SIGKILL)
    until(lambda: set(worker_addresses(workers.client)) != before)


def has_checkpoints(store: Store, count: int) -> Callable[[], bool]:
    return lambda: len(list(store.list("checkpoints/"))) >= count


@pytest.fixture(autouse=True)
def _no_checkpoints(object_store: Settings) -> Iterator[None]:
    """Of earlier tests, which would be taken for those of this one."""
    store = Store(object_store)
    yield
    store.delete([item.key for item in store.list("checkpoints/")])


def test_a_killed_worker_changes_no_bit_of_the_model(
    object_store: Settings,
    victims: Workers,
    training: FramePart,
    validation: FramePart,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, recipe = Store(object_store), make_recipe(object_store, maximum_rounds=200)  # time enough to strike
    slow = PARAMETERS | {"eta": 0.005}
    expected = fit(OneProcess(), recipe, slow, training, validation)
    with strike(victims, signal.SIGKILL, has_checkpoints(store, 10)):
        found = fit_closely(victims, recipe, slow, training, validation)
    assert found.save_raw("ubj") == expected.save_raw("ubj")
    (message,) = [record.getMessage() for record in caplog.records if record.name == distributed.__name__]
    goes_on_after = re.search(r"resumes after round (\d+)", message)
    assert goes_on_after is not None
    assert int(goes_on_after[1]) >= 10
    assert not list(store.list("checkpoints/"))


@pytest.mark.slow
def test_a_worker_killed_before_the_fit_is_waited_for(
    victims: Workers, training: FramePart, validation: FramePart, object_store: Settings
) -> None:
    recipe = make_recipe(object_store)
    expected = fit_closely(victims, recipe, PARAMETERS, training, validation)
    kill_one(victims)
    assert fit_closely(victims, recipe, PARAMETERS, training, validation).save_raw("ubj") == expected.save_raw("ubj")


def test_a_worker_that_takes_a_lost_ones_place_has_its_settings(victims: Workers) -> None:
    def settings_of(dask_worker: Worker) -> tuple[object, ...]:
        return dask_worker.memory_manager.memory_pause_fraction, os.environ.get("OMP_NUM_THREADS")

    before = victims.client.run(settings_of)
    kill_one(victims)
    victims.client.wait_for_workers(2)
    assert [*before.values(), *victims.client.run(settings_of).values()] == [
        (False, os.environ.get("OMP_NUM_THREADS"))
    ] * 4


def test_a_worker_lost_too_often_ends_the_fit_with_a_clear_word(
    object_store: Settings,
    victims: Workers,
    training: FramePart,
    validation: FramePart,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distributed, "MOST_LOSSES", 1)
    store, recipe = Store(object_store), make_recipe(object_store, maximum_rounds=10_000_000)
    with (
        pytest.raises(WorkersLostError, match=r"one may have been lost\. Start the run again"),
        strike(victims, signal.SIGKILL, has_checkpoints(store, 2)),
    ):
        fit_closely(victims, recipe, ENDLESS, training, validation)


@pytest.mark.slow
def test_a_worker_that_hangs_ends_the_fit_after_the_limit(
    object_store: Settings,
    victims: Workers,
    training: FramePart,
    validation: FramePart,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the moment it hangs an hour passes between any two looks at the clock; before it, no limit is near."""
    store, recipe = Store(object_store), make_recipe(object_store, maximum_rounds=10_000_000)
    has_struck = Event()
    hours = (3600.0 * number if has_struck.is_set() else 0.0 for number in count())
    monkeypatch.setattr(distributed, "monotonic", lambda: monotonic() + next(hours))
    with (
        pytest.raises(WorkersLostError, match="The Dask workers did not finish"),
        strike(victims, signal.SIGSTOP, has_checkpoints(store, 2), has_struck),
    ):
        fit_closely(victims, recipe, ENDLESS, training, validation)


@pytest.mark.parametrize(("limit_seconds", "is_patient"), [(900, True), (1, False)])
def test_a_late_worker_is_waited_for_as_long_as_the_settings_say(
    object_store: Settings,
    victims: Workers,
    training: FramePart,
    validation: FramePart,
    limit_seconds: int,
    is_patient: bool,
    tmp_path: Path,
) -> None:
    recipe = make_recipe(object_store.model_copy(update={"dask_collective_seconds": limit_seconds}))
    late = worker_addresses(victims.client)[1]
    is_free = tmp_path / "free"
    busy = victims.client.submit(until, is_free.exists, workers=[late], pure=False)
    if is_patient:
        Timer(6, is_free.touch).start()
    with nullcontext() if is_patient else pytest.raises(WorkersLostError):
        fit_closely(victims, recipe, PARAMETERS, training, validation)
    is_free.touch()
    busy.result()


@pytest.mark.parametrize("in_memory", [True, False])
def test_empty_and_skewed_partitions(
    object_store: Settings, workers: Workers, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "is_in_memory", lambda *_: in_memory)
    store, recipe = Store(object_store), make_recipe(object_store)
    cases = [([4000, 1, 0, 30], [600]), ([3000], [500, 0]), ([0, 0, 2000], [0, 900])]
    for number, (training, validation) in enumerate(cases):
        parts = (put_part(store, f"{number}-t", training, seed=1), put_part(store, f"{number}-v", validation, seed=50))
        expected = fit(OneProcess(), recipe, PARAMETERS, *parts)
        assert fit(workers, recipe, PARAMETERS, *parts).save_raw("ubj") == expected.save_raw("ubj")


def test_a_partition_that_was_changed_is_named(
    object_store: Settings, workers: Workers, training: FramePart, validation: FramePart
) -> None:
    store, recipe = Store(object_store), make_recipe(object_store)
    changed = put_part(store, "changed", [500, 500], seed=3)
    store.put(changed.partitions[1].key, b"other bytes")
    with pytest.raises(ValueError, match=r"changed-001\.parquet was changed"):
        fit(workers, recipe, PARAMETERS, changed, validation)
    fit(workers, recipe, PARAMETERS, training, validation)  # nobody waits any longer for the one that failed
