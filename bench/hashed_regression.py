"""Logistic regression on hashed features: what ad systems ran on before trees: a baseline of the quality benchmark.

Chapelle, Manavoglu and Rosales 2015, "Simple and Scalable Response Prediction for Display Advertising".
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit, logit

from liftloop.contract.contract import Contract
from liftloop.stats.columns import Floats
from liftloop.stats.scoring import log_loss_per_row, sampling_weight
from liftloop.training.boosting import DownsampleRates, downsample
from liftloop.training.constraints import model_columns
from liftloop.training.frame import Part, TrainingFrame

BUCKETS = 2**18
SAMPLED_ROWS = 50_000  # of a part with a reward, and as many without
PENALTIES = (10.0, 100.0, 1000.0)  # on half the squared coefficients, in nats; the validation part chooses
MAXIMUM_ITERATIONS = 50

Buckets = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Hashed rows, shape (rows, columns), their rewards, and how many impressions each stands for."""

    buckets: Buckets
    reward: Floats
    weight: Floats


@dataclass(frozen=True, eq=False)
class HashedRegression:
    """P(reward) from one coefficient for each bucket that a row's values fall into."""

    intercept: float
    coefficients: Floats  # shape (BUCKETS,)

    def predict(self, buckets: Buckets) -> Floats:
        """Probabilities, shape (rows,), of what `hash_columns` returned."""
        return np.asarray(expit(self.intercept + self.coefficients[buckets].sum(axis=1)), dtype=np.float64)


def fit_hashed_regression(contract: Contract, frame: TrainingFrame) -> HashedRegression:
    """Fit on samples of all that was before the hold-out."""
    training, validation = (_joined(_samples(contract, frame, part)) for part in ("training", "validation"))

    def validation_loss(penalty: float) -> float:
        losses = log_loss_per_row(validation.reward, fit_sample(training, penalty).predict(validation.buckets))
        return float(np.average(losses, weights=validation.weight))

    return fit_sample(_joined(iter([training, validation])), min(PENALTIES, key=validation_loss))


def fit_sample(sample: Sample, penalty: float) -> HashedRegression:
    """The coefficients with the least penalized log loss, by L-BFGS."""
    rows, columns = sample.buckets.shape
    ones, ends = np.ones(sample.buckets.size), np.arange(rows + 1) * columns
    matrix = csr_matrix((ones, sample.buckets.ravel(), ends), shape=(rows, BUCKETS))
    intercept = float(logit(np.average(sample.reward, weights=sample.weight)))

    def loss_and_gradient(coefficients: Floats) -> tuple[float, Floats]:
        score = intercept + matrix @ coefficients
        losses = np.logaddexp(0, score) - sample.reward * score
        error = sample.weight * (expit(score) - sample.reward)
        loss = float(sample.weight @ losses + penalty / 2 * coefficients @ coefficients)
        return loss, matrix.T @ error + penalty * coefficients

    search = {"jac": True, "method": "L-BFGS-B", "options": {"maxiter": MAXIMUM_ITERATIONS}}
    return HashedRegression(intercept, minimize(loss_and_gradient, np.zeros(BUCKETS), **search).x)


def hash_columns(contract: Contract, rows: pd.DataFrame) -> Buckets:
    """The bucket of each value of each column that a model may read, shape (rows, columns); numbers by magnitude."""
    text, numbers, _ = model_columns(contract)
    hashed = [_hash(name, rows[name].astype(object).where(rows[name].notna(), "")) for name in text]
    return np.column_stack(hashed + [_hash(name, _magnitude(rows[name])) for name in numbers])


def _hash(name: str, values: "pd.Series[str]") -> Buckets:
    codes, known = pd.factorize(values)
    buckets = pd.util.hash_array(np.array([f"{name}={value}" for value in known], dtype=object)) % BUCKETS
    return np.asarray(buckets.astype(np.int64)[codes])


def _magnitude(values: "pd.Series[float]") -> "pd.Series[str]":
    """Numbers of about the same size fall together; what is missing is by itself."""
    return pd.Series(np.round(4 * np.arcsinh(values.to_numpy(dtype=np.float64, na_value=np.nan)))).astype(str)


def _samples(contract: Contract, frame: TrainingFrame, part: Part) -> Iterator[Sample]:
    strides = DownsampleRates.for_at_most(SAMPLED_ROWS, frame.index.parts[part])
    for rows in frame.read(part):
        reward = rows[contract.reward].to_numpy(dtype=np.float64)
        kept, stands_for = downsample(reward, strides)
        weight = stands_for * sampling_weight(reward[kept], contract.outcome.negatives_kept)
        yield Sample(hash_columns(contract, rows.iloc[kept]), reward[kept], weight)


def _joined(samples: Iterator[Sample]) -> Sample:
    columns = zip(*((each.buckets, each.reward, each.weight) for each in samples), strict=True)
    return Sample(*(np.concatenate(column) for column in columns))
