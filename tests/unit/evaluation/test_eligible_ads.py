"""The sets of ads that the log has for impressions."""

import json

import numpy as np
import pandas as pd
from lib.contracts import as_named
from lib.gate_lake import make_contract
from lib.memory_store import MemoryStore

from liftloop.evaluation.eligible_ads import EligibleAds
from liftloop.evaluation.logged_candidates import LoggedCandidates

SETS = [["a", "c"], ["b"], None, ["a", "z"], ["y", "z"]]
LOGGED = pd.Series([None if each is None else json.dumps(each) for each in SETS], dtype=object)
ADS = pd.Series(["a", "b", "c", "a"])  # the last in another place


def test_what_share_of_a_set_cannot_be_scored() -> None:
    eligible = EligibleAds(LOGGED, ADS)
    assert eligible.unknown_shares.tolist() == [0, 0, 0, 0.5, 1]
    assert eligible.is_logged.tolist() == [True, True, False, True, True]
    assert not EligibleAds(LOGGED.where(LOGGED.isna(), None), ADS).is_logged.any()


def test_exactly_the_known_ads_of_a_set_compete_and_without_any_all_do() -> None:
    day = pd.Timestamp("2026-01-10", tz="UTC")
    ads = pd.DataFrame({"placement_id": ["p0", "p0", "p0", "p1"], "ad_id": ADS, "first_shown": day})
    ads["alive_until"] = day + pd.to_timedelta([-1, 1, 1, 1], unit="D")  # the first has ended
    rows = pd.DataFrame({"event_timestamp": day, "placement_id": "p0", "eligible_ads": LOGGED})
    columns = make_contract("s").model_dump(by_alias=True, exclude_unset=True)["columns"]
    contract = make_contract("s", columns=columns | as_named(["eligible_ads"]))
    (chunk,) = LoggedCandidates(MemoryStore(), contract, None, ads, rows).chunks()  # type: ignore[arg-type]
    found = [ADS[chunk.ad[chunk.owner == row]].tolist() for row in range(len(rows))]
    assert found == [["a", "c"], ["b"], ["b", "c"], ["a"], ["a", "b", "c"]]
    assert np.array_equal(chunk.counts, [2, 1, 2, 1, 3])
