"""What only the simulator knows of each decision in a world that moves: who could be shown, at which probability."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from liftloop.datasets.simulated.catalogue import ADS
from liftloop.datasets.simulated.draws import FloatArray, Names
from liftloop.datasets.simulated.impressions import Impressions
from liftloop.datasets.simulated.today import LARGEST_PROBABILITY
from liftloop.datasets.simulated.truth import TruthError, read_click_probability
from liftloop.datasets.simulated.world import World


def write_decisions(folder: Path, name: str, rows: Impressions, first_id: int, ad_ids: Names, world: World) -> None:
    """Write the decisions of one file, and the ads that competed in it."""
    moved = rows.moved
    assert moved is not None  # only a world that moves has them
    folder.mkdir(parents=True, exist_ok=True)
    decisions = pa.table(
        {
            "impression_id": np.arange(first_id, first_id + len(rows.ad)),
            "context_id": rows.context.astype(np.int32),
            "row_factor": moved.row_factor.astype(np.float32),
        }
    )
    ads = pa.table(
        {
            "ad_id": np.asarray(ad_ids),
            "slot": np.arange(len(ADS)),
            "factor": moved.slot_factor,
            "is_eligible": moved.is_eligible,
            "bid": world.ads.bid_micros / 1e6,
        }
    )
    pq.write_table(decisions, folder / f"{name}.decisions.parquet", compression="zstd")
    pq.write_table(ads, folder / f"{name}.ads.parquet", compression="zstd")


@dataclass(frozen=True, eq=False)
class DecisionTruth:
    """Looks up the true click probability and bid of any ad that competed for a logged impression."""

    _decisions: pd.DataFrame  # file, context_id and row_factor by impression_id
    _ads: pd.DataFrame  # slot, factor, is_eligible and bid by file and ad_id
    _click_probability: FloatArray  # (contexts, slots); nan where the placement does not take the slot's ads

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `simulate` wrote to its folder of truth.

        Raises:
            TruthError: it is missing, or of a world that does not move.
        """
        files = sorted((folder / "decisions").glob("*.decisions.parquet"))
        if not files:
            raise TruthError(f"{folder} has no decisions; run `liftloop simulate` in a world that moves")
        decisions = [pd.read_parquet(path).assign(file=number) for number, path in enumerate(files)]
        ads = [
            pd.read_parquet(path.with_name(path.name.replace(".decisions.", ".ads."))).assign(file=number)
            for number, path in enumerate(files)
        ]
        return cls(
            pd.concat(decisions).set_index("impression_id"),
            pd.concat(ads).set_index(["file", "ad_id"]),
            read_click_probability(folder),
        )

    def click_probability(self, impression_id: ArrayLike, ad_id: ArrayLike) -> FloatArray:
        """P(click) if `ad_id[i]` had been shown in the i-th impression, shape (n,); nan if it did not compete.

        Raises:
            TruthError: an impression is not of this log.
        """
        decisions, ads = self._looked_up(impression_id, ad_id)
        base = self._click_probability[decisions["context_id"], ads["slot"].fillna(0).astype(int)]
        probability = np.minimum(
            base * decisions["row_factor"].to_numpy() * ads["factor"].to_numpy(), LARGEST_PROBABILITY
        )
        return np.where(ads["is_eligible"].eq(True), probability, np.nan)

    def value(self, impression_id: ArrayLike, ad_id: ArrayLike) -> FloatArray:
        """Expected revenue of it, in currency units, shape (n,); nan and errors as `click_probability`."""
        _, ads = self._looked_up(impression_id, ad_id)
        return np.asarray(self.click_probability(impression_id, ad_id) * ads["bid"].to_numpy(dtype=np.float64))

    def competing(self, impression_id: int) -> list[str]:
        """The ids of the ads that could have been shown in one impression, sorted."""
        file, context = self._decisions.loc[[impression_id], ["file", "context_id"]].to_numpy(dtype=int)[0]
        ads = self._ads.loc[file]
        takes = ~np.isnan(self._click_probability[context])
        return sorted(ads.index[ads["is_eligible"] & takes[ads["slot"]]])

    def _looked_up(self, impression_id: ArrayLike, ad_id: ArrayLike) -> tuple[pd.DataFrame, pd.DataFrame]:
        wanted = np.asarray(impression_id).astype(np.int64)
        places = self._decisions.index.get_indexer(pd.Index(wanted))
        if (places < 0).any():
            raise TruthError(f"impression_id {wanted[places < 0][0]} is not of this log")
        decisions = self._decisions.iloc[places]
        keys = pd.MultiIndex.from_arrays([decisions["file"], np.asarray(ad_id, dtype=object)])
        return decisions, self._ads.reindex(keys)
