"""The ads that could have been shown for logged impressions, where the log says so."""

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.decisions.candidates import Chunk
from liftloop.stats.columns import Floats


@dataclass(frozen=True, eq=False)
class EligibleAds:
    """Logged sets of ads.

    `logged`: JSON lists of ids, missing where the log does not say, shape (impressions,). `ad_ids`: of the ads that can
    be scored, shape (ads,).
    """

    logged: "pd.Series[str]"
    ad_ids: "pd.Series[str]"

    @property
    def is_logged(self) -> NDArray[np.bool_]:
        """Whether the log has the set of an impression, shape (impressions,)."""
        return self._sets[0] >= 0

    @cached_property
    def unknown_shares(self) -> Floats:
        """The share of each impression's eligible ads that cannot be scored, shape (impressions,); 0 without a set."""
        known, (numbers, texts) = {*self.ad_ids}, self._sets
        sets = (json.loads(text) for text in texts)
        shares = [sum(each not in known for each in ids) / max(len(ids), 1) for ids in sets]
        return np.array([*shares, 0.0])[numbers]  # impressions without a set have the last

    def has(self, chunk: Chunk) -> NDArray[np.bool_]:
        """Whether a candidate is in its impression's set, shape (candidates,)."""
        (numbers, texts), (ad, ids) = self._sets, self._ads
        sets = np.unique(numbers[chunk.first : chunk.last])
        sets = sets[sets >= 0]
        members = [json.loads(texts[each]) for each in sets]
        ads = ids.get_indexer(pd.Index([*chain.from_iterable(members)], dtype=object))
        pairs = np.repeat(sets, [len(each) for each in members]) * len(ids) + ads
        wanted = numbers[chunk.owner] * len(ids) + ad[chunk.ad]
        return np.isin(wanted, pairs[ads >= 0])

    @cached_property
    def _sets(self) -> tuple[NDArray[np.intp], "pd.Index[str]"]:
        """The number of each impression's set, -1 where it has none, and the sets."""
        return pd.factorize(self.logged)

    @cached_property
    def _ads(self) -> tuple[NDArray[np.intp], "pd.Index[str]"]:
        """The number of each ad, and their ids."""
        return pd.factorize(self.ad_ids)
