"""Mean amounts of groups, shrunk by the variance within and between them."""

import numpy as np

from liftloop.stats.columns import Floats
from liftloop.stats.shrinkage import credibility_means


def shrunken(groups: list[Floats], prior: float) -> Floats:
    sizes, sums = [len(each) for each in groups], [each.sum() for each in groups]
    squares = [np.square(each).sum() for each in groups]
    return credibility_means(sizes, sums, squares, np.full(len(groups), prior))


def test_without_noise_each_group_keeps_its_mean() -> None:
    np.testing.assert_allclose(shrunken([np.full(2, 3.0), np.full(50, 1.0)], 2.0), [3, 1])


def test_groups_that_differ_by_chance_get_the_prior() -> None:
    random = np.random.default_rng(3)
    found = shrunken([random.lognormal(0, 1, 20) for _ in range(40)], np.exp(0.5))
    assert np.abs(found - np.exp(0.5)).max() < 0.25


def test_shrinking_is_better_than_both_extremes() -> None:
    random = np.random.default_rng(5)
    truth = random.lognormal(0, 0.3, 200)
    groups = [mean * random.lognormal(-0.5, 1, random.integers(1, 40)) for mean in truth]
    prior = float(np.concatenate(groups).mean())
    errors = [np.square(found - truth).mean() for found in (shrunken(groups, prior), [g.mean() for g in groups], prior)]
    assert errors[0] < min(errors[1:])


def test_no_groups_have_no_means() -> None:
    assert shrunken([], 1.0).size == 0
