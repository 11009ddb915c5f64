"""What the trials of a search try, and on which rows."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from liftloop.contract_sections import Training
from liftloop.training.fitting import Rows, thin_out
from liftloop.training.train import CAUTIOUS, draw_parameters


def test_the_same_seed_draws_the_same_and_the_first_trial_is_cautious() -> None:
    drawn = draw_parameters(Training(trials=6, seed=3))
    assert drawn == draw_parameters(Training(trials=6, seed=3))
    assert drawn != draw_parameters(Training(trials=6, seed=4))
    assert drawn[0] == CAUTIOUS
    assert len({str(each) for each in drawn}) == 6
    assert draw_parameters(Training(trials=2, seed=3)) == drawn[:2]


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_a_sample_stands_for_all_rows(rewarded: list[bool], stride: int, rewarded_stride: int) -> None:
    reward = pd.Series(rewarded, dtype=np.float32)
    rows = Rows(pd.DataFrame({"number": range(len(reward))}), reward, pd.Series(1, reward.index, dtype=np.float32))
    sample = thin_out(rows, stride, rewarded_stride)
    assert (sample.reward == reward[sample.features["number"]]).all()
    for value, step in ((0, stride), (1, rewarded_stride)):
        kept = sample.reward == value
        assert kept.sum() == np.ceil((reward == value).sum() / step)
        assert 0 <= sample.weight[kept].sum() - (reward == value).sum() < step
