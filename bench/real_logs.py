"""Three real ad logs as files to land. They may not be redistributed, so they lie in a folder beside the project.

Their contracts lie in `bench/contracts/`. None of the logs has a time: rows of `criteo_attribution` know their number
in the full log, which its publisher says is sorted by time over 30 days; the other two have an order that means
nothing, and their rows are spread evenly over ten days. Features stay point-in-time on such a time, too.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

CONTRACTS = Path(__file__).with_name("real_log_contracts")
DATA_FOLDER = Path("../shared/data")

_START = pd.Timestamp("2026-01-01", tz="UTC")
_CRITEO_ROWS, _CRITEO_DAYS = 16_468_027, 30
_DAYS = 10


def land_real_log(source: str, folder: Path, land: Callable[[str, bytes], None]) -> None:
    """Land a log as one Parquet file.

    Raises:
        FileNotFoundError: the log is not there.
    """
    body = io.BytesIO()
    REAL_LOGS[source](folder).to_parquet(body, index=False)
    land(f"{source}.parquet", body.getvalue())


def _criteo_attribution(folder: Path) -> pd.DataFrame:
    files = [folder / f"criteo_attribution_1pct/small_{part}.parquet" for part in ("train", "valid")]
    rows = pd.concat(map(pd.read_parquet, files)).sort_index()
    return _with_time(rows, rows.index.to_numpy() / _CRITEO_ROWS * _CRITEO_DAYS)


def _avazu(folder: Path) -> pd.DataFrame:
    older = pd.read_csv(folder / "avazu_9k/train.csv", dtype=str)
    newer = pd.read_csv(folder / "avazu_9k/test.csv", dtype=str, header=None, names=list(older))
    return _spread_evenly(pd.concat([older, newer]))


def _kdd2012(folder: Path) -> pd.DataFrame:
    rows = pd.read_csv(folder / "kdd2012_click_small/Click_prediction_small.csv", dtype=str)
    return _spread_evenly(rows.assign(user_id=rows["user_id"].where(rows["user_id"] != "0")))


def _spread_evenly(rows: pd.DataFrame) -> pd.DataFrame:
    return _with_time(rows, np.arange(len(rows)) / len(rows) * _DAYS)


def _with_time(rows: pd.DataFrame, days: ArrayLike) -> pd.DataFrame:
    """Number the rows and date them, in milliseconds, by days since the start."""
    milliseconds = np.asarray(days) * 86_400_000 + _START.timestamp() * 1_000
    return rows.assign(row=range(len(rows)), pseudo_time=milliseconds.astype(np.int64))


REAL_LOGS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "criteo_attribution": _criteo_attribution,
    "avazu": _avazu,
    "kdd2012": _kdd2012,
}
