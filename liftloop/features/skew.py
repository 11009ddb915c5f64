"""Online/offline skew: whether decisions read the same feature values as a training as of the same time."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.errors import UserError
from liftloop.features.definitions import feature_columns
from liftloop.features.lookup import materialized_at, offline_features, online_features
from liftloop.lake.lake import Lake
from liftloop.provenance.lineage import writer_of
from liftloop.storage.duckdb import connect, quoted
from liftloop.storage.keys import features_prefix, materialized_key
from liftloop.storage.runs import Step, record
from liftloop.storage.store import Store

SAMPLE_ROWS = 200
_STEP = "check_skew"
_SHOWN = 20


class SkewError(UserError):
    """Online and offline features differ; the message lists keys, values and the runs that wrote them."""


@dataclass(frozen=True)
class Difference:
    """One feature value that differs between online and offline store; NaN: missing."""

    key: str  # the key column of the feature
    value: str
    feature: str
    online: float
    offline: float

    def __str__(self) -> str:
        return f"{self.key}={self.value} {self.feature}: online {self.online:g}, offline {self.offline:g}"


def find_skew(store: Store, contract: Contract) -> list[Difference]:
    """Compare the features of a sample of recently served keys, as of the online store's own time.

    Right after both were updated they must be equal within float tolerance; missing equals missing.
    """
    files = Lake(store, contract).newest_files()
    if not files:
        record(Step(name=_STEP, is_reused=True))
        return []
    rows = _served_keys(store, contract, files).assign(event_timestamp=materialized_at(store, contract.source))
    columns = feature_columns(contract)
    online, offline = (ask(store, contract, rows) for ask in (online_features, offline_features))
    differing = np.argwhere(~is_equal(contract, online, offline).to_numpy())
    found = [_difference(contract, online.iloc[row], offline.iloc[row], columns[place]) for row, place in differing]
    found = list(dict.fromkeys(found))  # a key may have been served several times
    metrics = {"rows_sampled": len(rows), "values_compared": rows.shape[0] * len(columns), "differing": len(found)}
    record(Step(name=_STEP, metrics=metrics, is_reused=True))  # it has no outputs
    return found


def is_equal(contract: Contract, online: pd.DataFrame, offline: pd.DataFrame) -> pd.DataFrame:
    """By row and feature, whether both values agree within float tolerance or both are missing."""
    columns = feature_columns(contract)
    ours, theirs = (side.reindex(columns=columns).to_numpy(dtype=np.float64) for side in (online, offline))
    return pd.DataFrame(np.isclose(ours, theirs, equal_nan=True), columns=columns, index=offline.index)


def require_no_skew(store: Store, contract: Contract, differences: list[Difference]) -> None:
    """Require that there are no differences.

    Raises:
        SkewError: there are some.
    """
    if not differences:
        return
    tables = {key: _newest_partition(store, contract, key) for key in sorted({each.key for each in differences})}
    online = materialized_key(contract.source)
    writers = [f"online values: {online}, written by {writer_of(store, online)}"]
    writers += [
        f"offline values of {key}: {table}, written by {writer_of(store, table)}" for key, table in tables.items()
    ]
    shown = [str(each) for each in differences[:_SHOWN]]
    raise SkewError("\n".join([f"{len(differences)} online values differ from the offline ones:", *shown, *writers]))


def _served_keys(store: Store, contract: Contract, files: list[str]) -> pd.DataFrame:
    keys = ", ".join(map(quoted, contract.keys))
    with connect(store.settings) as connection:
        connection.read_parquet([*map(store.uri, files)], union_by_name=True).create_view("lake")
        sample = f"SELECT DISTINCT {keys} FROM lake ORDER BY hash({keys}) LIMIT {SAMPLE_ROWS}"
        return connection.execute(sample).df()


def _difference(
    contract: Contract, online: "pd.Series[float]", offline: "pd.Series[float]", feature: str
) -> Difference:
    key = next(key for key in contract.keys if feature in feature_columns(contract, key))
    return Difference(key, str(offline[key]), feature, float(online[feature]), float(offline[feature]))


def _newest_partition(store: Store, contract: Contract, key: str) -> str:
    return max(item.key for item in store.list(features_prefix(contract.source, key)) if "/date=" in item.key)
