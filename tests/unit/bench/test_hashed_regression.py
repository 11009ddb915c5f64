"""The hashed baseline: where values fall, and that it finds what a line on them can."""

import numpy as np
import pandas as pd
from lib.training_lake import make_contract

from bench.hashed_regression import BUCKETS, HashedRegression, Sample, fit_sample, hash_columns
from liftloop.training.constraints import model_columns

CONTRACT = make_contract("s")
TEXT, NUMBERS, _ = model_columns(CONTRACT)
ROWS = pd.DataFrame({name: ["x", "y", None] for name in TEXT} | {name: [1.0, 1e9, np.nan] for name in NUMBERS})


def test_every_value_of_every_column_has_its_bucket() -> None:
    found = hash_columns(CONTRACT, ROWS)
    assert found.shape == (3, len(TEXT) + len(NUMBERS))
    assert ((found >= 0) & (found < BUCKETS)).all()
    assert np.unique(found).size > 0.95 * found.size
    np.testing.assert_array_equal(hash_columns(CONTRACT, ROWS.iloc[::-1]), found[::-1])


def test_like_numbers_fall_together() -> None:
    near, far = ROWS.assign(hour=[1.01, 1e9, np.nan]), ROWS.assign(hour=[9.0, 1e9, np.nan])
    np.testing.assert_array_equal(hash_columns(CONTRACT, near), hash_columns(CONTRACT, ROWS))
    assert (hash_columns(CONTRACT, far) != hash_columns(CONTRACT, ROWS)).sum() == 1


def test_scores_are_sums_of_coefficients() -> None:
    buckets = hash_columns(CONTRACT, ROWS)
    coefficients = np.zeros(BUCKETS)
    coefficients[buckets[1, 0]] = np.log(3)
    model = HashedRegression(intercept=0, coefficients=coefficients)
    np.testing.assert_allclose(model.predict(buckets), [0.5, 0.75, 0.5])


def test_a_fit_finds_what_depends_on_one_column_and_the_penalty_holds_it_back() -> None:
    random = np.random.default_rng(7)
    buckets = random.integers(0, 4, (20_000, 3)) + np.array([0, 10, 20])
    truth = 0.1 + 0.2 * (buckets[:, 1] == 13)
    sample = Sample(buckets, (random.random(20_000) < truth).astype(float), np.ones(20_000))
    np.testing.assert_allclose(fit_sample(sample, 1).predict(buckets), truth, atol=0.03)
    assert np.ptp(fit_sample(sample, 1e6).predict(buckets)) < 0.01
    doubled = Sample(buckets, sample.reward, np.where(sample.reward > 0, 1.0, 2.0))
    assert fit_sample(doubled, 1).predict(buckets).mean() < 0.7 * truth.mean()
