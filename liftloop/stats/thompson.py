"""Which ads Bernoulli Thompson sampling shows, given the clicks observed so far."""

import numpy as np
from numpy.typing import ArrayLike

from liftloop.stats.columns import Floats, column, require, require_same_length

CHUNK_DRAWS = 10_000  # at a time, so that 80 ads take 6 MB however many draws


def slot_probabilities(alpha: ArrayLike, beta: ArrayLike, slots: int, *, draws: int = 100_000, seed: int) -> Floats:
    """P(ad in slot), shape (ads, slots): each draw of the posteriors fills the slots with its best ads, in order.

    `alpha` and `beta`, each of shape (ads,), are of the beta posterior of each ad's click rate. Thompson 1933; Chapelle
    & Li 2011, "An Empirical Evaluation of Thompson Sampling". By Monte Carlo: the standard error of a probability p is
    sqrt(p (1 - p) / draws).

    Raises:
        ValueError: lengths differ, a value is not above 0, or there are more slots than ads.
    """
    alpha, beta = column("alpha", alpha), column("beta", beta)
    require_same_length(alpha=alpha, beta=beta)
    for name, values in (("alpha", alpha), ("beta", beta)):
        require(name, values, values > 0, "above 0")
    if not 1 <= slots <= len(alpha):
        raise ValueError(f"slots={slots}: must be between 1 and the number of ads, {len(alpha)}")
    rng = np.random.default_rng(seed)
    counts = np.zeros((len(alpha), slots))
    for first in range(0, draws, CHUNK_DRAWS):
        rates = rng.beta(alpha, beta, size=(min(CHUNK_DRAWS, draws - first), len(alpha)))
        best = np.argsort(-rates, axis=1)[:, :slots]
        counts += np.stack([np.bincount(ads, minlength=len(alpha)) for ads in best.T], axis=1)
    return np.asarray(counts / draws)
