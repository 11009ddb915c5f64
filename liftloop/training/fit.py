"""One fit on all rows, each read by the process that needs it; the rows may exceed memory."""

import xgboost

from liftloop.compute.compute import Compute, OneProcess, Workers
from liftloop.training.boosting import Parameters, Recipe
from liftloop.training.checkpoints import Checkpoints
from liftloop.training.distributed import fit_on_workers
from liftloop.training.frame import FramePart
from liftloop.training.shards import Fit, assign_partitions, fit_shard, is_in_memory


def fit(
    compute: Compute, recipe: Recipe, parameters: Parameters, training: FramePart, validation: FramePart
) -> xgboost.Booster:
    """The booster. It depends on the parts and the number of workers only, not on workers lost during the fit.

    Raises:
        WorkersLostError: workers were lost repeatedly, or the fit made no progress within the limit.
    """
    if isinstance(compute, Workers):
        return fit_on_workers(compute, recipe, parameters, training, validation)
    return fit_in_process(compute, recipe, parameters, training, validation)


def fit_in_process(
    compute: OneProcess, recipe: Recipe, parameters: Parameters, training: FramePart, validation: FramePart
) -> xgboost.Booster:
    """The booster, fitted in this process; an interrupted fit resumes from its last checkpoint."""
    (shard,) = assign_partitions(training.partitions, validation.partitions, 1)
    checkpoints = Checkpoints.of(recipe, parameters, [shard])
    in_memory = is_in_memory(recipe, training.rows + validation.rows, compute.memory_bytes)
    attempt = Fit(recipe, parameters, checkpoints, checkpoints.newest(), in_memory)
    booster = fit_shard(attempt, shard, compute.threads)
    checkpoints.clear()
    return booster
