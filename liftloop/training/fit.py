"""One fit on all rows, which are read where they are needed and may be more than memory holds."""

import xgboost

from liftloop.compute.compute import Compute, OneProcess, Workers
from liftloop.training.boosting import Parameters, Recipe
from liftloop.training.checkpoints import Checkpoints
from liftloop.training.distributed import fit_on_workers
from liftloop.training.frame import FramePart
from liftloop.training.shards import Fit, deal, fit_share, is_in_memory


def fit(
    compute: Compute, recipe: Recipe, parameters: Parameters, training: FramePart, validation: FramePart
) -> xgboost.Booster:
    """The booster, which depends on the parts and on the number of workers, and on nothing that befalls them.

    Raises:
        WorkersLostError: workers were lost again and again, or nothing went on for long.
    """
    if isinstance(compute, Workers):
        return fit_on_workers(compute, recipe, parameters, training, validation)
    return fit_here(compute, recipe, parameters, training, validation)


def fit_here(
    compute: OneProcess, recipe: Recipe, parameters: Parameters, training: FramePart, validation: FramePart
) -> xgboost.Booster:
    """In this process, resumed from its last checkpoint if it was interrupted."""
    (share,) = deal(training.partitions, validation.partitions, 1)
    checkpoints = Checkpoints.of(recipe, parameters, [share])
    in_memory = is_in_memory(recipe, training.rows + validation.rows, compute.memory_bytes)
    attempt = Fit(recipe, parameters, checkpoints, checkpoints.newest(), in_memory)
    booster = fit_share(attempt, share, compute.threads)
    checkpoints.clear()
    return booster
