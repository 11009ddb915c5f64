"""The search: which encodings and hyperparameters predict best, by a seeded optimizer on samples.

Trials are asked for in batches of fixed size, and their results are reported in order. So a seed gives the same result
whatever computes the trials and whichever ends first. An interrupted search replays from the start and reuses the
trials on record, which count against its time budget with the seconds that they took then.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from liftloop.compute.compute import Compute
from liftloop.contract.sections import Training
from liftloop.model.encoder import Encoder
from liftloop.storage.frozen import Frozen
from liftloop.storage.store import Store
from liftloop.training.boosting import Parameters, Recipe
from liftloop.training.constraints import is_interaction_allowed
from liftloop.training.trial import Task, Trial, run_trial

Progress = Callable[[str], object]
Choices = dict[str, Any]

BATCH = 4  # constant, because the optimizer's suggestions depend on the results reported before

HYPERPARAMETERS: dict[str, BaseDistribution] = {
    "max_depth": IntDistribution(2, 10),
    "eta": FloatDistribution(0.03, 0.3, log=True),
    "min_child_weight": FloatDistribution(1, 100, log=True),  # for rare rewards: about their expected number in a leaf
    "lambda": FloatDistribution(0.3, 100, log=True),
    "max_delta_step": IntDistribution(0, 1),  # 1 bounds the output of a leaf with few rewards
    "colsample_bytree": FloatDistribution(0.3, 1),
    "subsample": FloatDistribution(0.5, 1),
}

# Hardly any splits: for logs that hold next to no signal.
CAUTIOUS: Parameters = {
    "max_depth": 2,
    "eta": 0.2,
    "min_child_weight": 20,
    "lambda": 50,
    "max_delta_step": 1,
    "colsample_bytree": 1,
    "subsample": 1,
}
SHALLOW: Parameters = CAUTIOUS | {"eta": 0.1, "min_child_weight": 10, "lambda": 10, "colsample_bytree": 0.6}
USUAL: Parameters = SHALLOW | {"max_depth": 5, "min_child_weight": 5, "lambda": 5, "subsample": 0.8}


@dataclass(frozen=True)
class Space:
    """The search space: XGBoost's parameters, and which of the encoder's columns a model reads."""

    encoder: Encoder
    windows: frozenset[str]  # the columns that are features of keys

    @cached_property
    def text(self) -> list[str]:
        """Text columns, by falling information gain."""
        return [columns[0] for columns in self._of_kind("rate") if len(columns) == 1]

    @cached_property
    def crosses(self) -> list[tuple[str, ...]]:
        return [columns for columns in self._of_kind("rate") if len(columns) == 2]

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        return HYPERPARAMETERS | {
            # "native" and "strongest" are stored with trials, and keep their names for it.
            "text": CategoricalDistribution(["native", "rates", "both"]),
            "strongest": IntDistribution(min(2, len(self.text)), len(self.text)),  # how many text columns are read
            "counts": CategoricalDistribution([False, True]),
            "crosses": IntDistribution(0, len(self.crosses)),
            "windows": CategoricalDistribution([False, True]),
        }

    @cached_property
    def first(self) -> list[Choices]:
        """Trials to start with, before the optimizer has any results."""
        everything = {"strongest": len(self.text), "crosses": len(self.crosses), "counts": True, "windows": True}
        return [
            CAUTIOUS | everything | {"text": "native", "crosses": 0, "counts": False},
            SHALLOW | everything | {"text": "rates", "windows": False},
            USUAL | everything | {"text": "both", "crosses": 0},
            USUAL | everything | {"text": "rates", "windows": False, "max_depth": 4},
        ]

    def columns(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """The model's columns under these choices."""
        text = self.text[: choices["strongest"]]
        crosses = self.crosses[: choices["crosses"]]
        rates = [f"rate({name})" for name in text] if choices["text"] != "native" else []
        rates += [f"rate({', '.join(columns)})" for columns in crosses]
        counts = [f"count({name})" for name in text] if choices["counts"] else []
        native = text if choices["text"] != "rates" else []
        numbers = [name for name in self.encoder.numbers if choices["windows"] or name not in self.windows]
        chosen = (*native, *numbers, *self.encoder.presence_columns, *rates, *counts)
        return chosen or (*self.text, *self.encoder.numbers)  # a model needs one

    def _of_kind(self, kind: str) -> list[tuple[str, ...]]:
        return [lookup.columns for name, lookup in self.encoder.lookups.items() if name.startswith(f"{kind}(")]


class Finished(Frozen):
    """A finished trial, and the time that its batch had taken by then."""

    trial: Trial
    batch_seconds: float  # without the time that an interrupted search lay still


@dataclass(frozen=True)
class Journal:
    """The finished trials of one training, on record, so that an interrupted search need not repeat them."""

    store: Store
    prefix: str

    def read(self, task: Task) -> Finished | None:
        """The trial of this task, or None if it is not on record."""
        try:
            finished = Finished.model_validate_json(self.store.get(self._key(task.number)))
        except (KeyError, ValidationError):
            return None
        trial = finished.trial
        return finished if (trial.parameters, trial.encoding) == (task.parameters, task.encoding) else None

    def write(self, finished: Finished) -> None:
        self.store.put(self._key(finished.trial.number), finished.model_dump_json().encode())

    def _key(self, number: int) -> str:
        return f"{self.prefix}{number:05}.json"


@dataclass(frozen=True)
class Search:
    """One search on samples that are loaded in `compute`."""

    compute: Compute
    recipe: Recipe
    space: Space
    samples: Mapping[str, Sequence[Any]]  # by part
    training: Training
    journal: Journal | None
    progress: Progress

    def run(self) -> list[Trial]:
        """The trials in order: as many as the contract allows, or as many batches as fit into its time budget."""
        study = _study(self.training.seed, self.space.first)
        trials: list[Trial] = []
        spent_seconds, longest_seconds = 0.0, 0.0
        while len(trials) < self.training.trials:
            if trials and spent_seconds + longest_seconds > self.training.budget_seconds:
                break
            batch = self._run_batch(self._ask(study, trials))
            trials += [finished.trial for finished in batch]
            for trial in trials[-len(batch) :]:
                study.tell(trial.number - 1, trial.log_loss)
            batch_seconds = max(finished.batch_seconds for finished in batch)
            spent_seconds, longest_seconds = spent_seconds + batch_seconds, max(longest_seconds, batch_seconds)
        return trials

    def _ask(self, study: optuna.Study, earlier: Sequence[Trial]) -> list[Task]:
        asked = [study.ask(self.space.distributions) for _ in range(min(BATCH, self.training.trials - len(earlier)))]
        numbered = enumerate(asked, start=len(earlier) + 1)
        return [self._task(number, each.params, tuple(earlier)) for number, each in numbered]

    def _task(self, number: int, choices: Choices, earlier: tuple[Trial, ...]) -> Task:
        parameters = {name: choices[name] for name in HYPERPARAMETERS}
        encoding = {name: choice for name, choice in choices.items() if name not in HYPERPARAMETERS}
        return Task(number, parameters, encoding, self.space.columns(choices), earlier)

    def _run_batch(self, tasks: Sequence[Task]) -> list[Finished]:
        """The trials of a batch, in order; each is put on record as soon as it ends."""
        on_record = [self.journal.read(task) for task in tasks] if self.journal else [None] * len(tasks)
        done = [finished for finished in on_record if finished]
        remaining = [task for task, finished in zip(tasks, on_record, strict=True) if finished is None]
        earlier_seconds = max((finished.batch_seconds for finished in done), default=0.0)
        started = perf_counter()
        for trial in self._run(remaining):
            finished = Finished(trial=trial, batch_seconds=earlier_seconds + perf_counter() - started)
            if self.journal:
                self.journal.write(finished)
            self.progress(_words(trial, self.training.trials))
            done.append(finished)
        return sorted(done, key=lambda finished: finished.trial.number)

    def _run(self, tasks: Sequence[Task]) -> Iterable[Trial]:
        if not tasks:
            return []
        shared = {"recipe": replace(self.recipe, out_of_fold=()), "threads": self.compute.threads_for(BATCH)}
        return self.compute.run(run_trial, tasks, **shared, **self.samples)


def allowed_encoders(encoders: Sequence[Encoder], training: Training) -> tuple[Encoder, ...]:
    """The encoders without the crosses that the contract forbids."""
    allowed = [name for name, columns in encoders[0].sources.items() if is_interaction_allowed(columns, training)]
    return tuple(encoder.select(allowed) for encoder in encoders)


def _study(seed: int, first: Iterable[Choices]) -> optuna.Study:
    optuna.logging.set_verbosity(logging.WARNING)  # otherwise it logs a line for every trial
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    for choices in first:
        study.enqueue_trial(choices)
    return study


def _words(trial: Trial, most: int) -> str:
    given_up = ", pruned" if trial.is_given_up else ""
    reached = f"log loss {trial.log_loss:.5f} after {trial.rounds} rounds and {trial.seconds:.1f} s"
    return f"trial {trial.number} of {most}: {reached}{given_up}"
