"""The Open Bandit sample, fetched through pip for real: whole, unchanged, verified, and offline the second time."""

import csv
import io
import tarfile
from pathlib import Path

import pytest

from liftloop.datasets import open_bandit
from liftloop.datasets.open_bandit import SDIST, OpenBanditError, land_sample, obtain

MEMBERS = f"{open_bandit.RELEASE}/obp/dataset/obd"
LOGS = [(policy, campaign) for policy in ("random", "bts") for campaign in ("all", "men", "women")]


def _nowhere(_key: str, _content: bytes) -> None:
    """Lands nothing."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    obtain(folder)
    return folder


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture(scope="module")
def landed(cache: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    land_sample((cache / SDIST).read_bytes(), files.__setitem__)
    return files


def _source(cache: Path, name: str) -> bytes:
    with tarfile.open(cache / SDIST) as archive:
        member = archive.extractfile(f"{MEMBERS}/{name}")
        assert member is not None
        return member.read()


def test_lands_a_file_per_policy_campaign_and_day(landed: dict[str, bytes]) -> None:
    days = [f"2019-11-{day}" for day in range(24, 31)]
    daily = {f"{policy}/{campaign}/{day}.csv" for policy, campaign in LOGS for day in days}
    assert set(landed) == daily | {f"reference/{campaign}/item_context.csv" for campaign in ("all", "men", "women")}


@pytest.mark.parametrize(("policy", "campaign"), LOGS)
def test_the_days_together_are_the_source(cache: Path, landed: dict[str, bytes], policy: str, campaign: str) -> None:
    header, body = _source(cache, f"{policy}/{campaign}/{campaign}.csv").split(b"\n", 1)
    days = [landed[key].split(b"\n", 1) for key in sorted(landed) if key.startswith(f"{policy}/{campaign}/")]
    assert {first for first, _ in days} == {b"row" + header}
    assert b"".join(rest for _, rest in days) == body
    assert body.count(b"\n") == 10_000


def test_each_row_lies_in_the_file_of_its_utc_date(landed: dict[str, bytes]) -> None:
    for key, content in landed.items():
        if not key.startswith("reference/"):
            rows = csv.DictReader(io.StringIO(content.decode()))
            assert {row["timestamp"][:10] + row["timestamp"][-6:] for row in rows} == {f"{Path(key).stem}+00:00"}


@pytest.mark.parametrize("campaign", ["all", "men", "women"])
def test_item_contexts_of_both_policies_differ_in_hash_salt_alone(cache: Path, campaign: str) -> None:
    tables = [_source(cache, f"{policy}/{campaign}/item_context.csv").decode() for policy in ("random", "bts")]
    random, bts = ([tuple(column) for column in zip(*csv.reader(io.StringIO(table)), strict=True)] for table in tables)
    assert random[:3] == bts[:3]
    for one, other in zip(random[3:], bts[3:], strict=True):
        assert len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))


@pytest.mark.usefixtures("no_index")
def test_second_fetch_needs_no_index(cache: Path, landed: dict[str, bytes]) -> None:
    again: dict[str, bytes] = {}
    assert land_sample(obtain(cache), again.__setitem__) == list(again)
    assert again == landed


@pytest.mark.usefixtures("no_index")
def test_without_an_index_the_error_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(OpenBanditError, match=r"pip could not download .*No matching distribution.*package index"):
        obtain(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_of_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_bandit, "SDIST_SHA256", "0" * 64)
    with pytest.raises(OpenBanditError, match="DO NOT MATCH THE HASHES"):
        obtain(tmp_path)


def test_a_damaged_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / SDIST).write_bytes(b"damaged")
    with pytest.raises(OpenBanditError, match=rf"{SDIST} has SHA-256 .* expected .* Delete it"):
        obtain(tmp_path)


def test_a_missing_file_is_named() -> None:
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w:gz").close()
    with pytest.raises(OpenBanditError, match=f"has no file {MEMBERS}/random/all/item_context.csv"):
        land_sample(empty.getvalue(), _nowhere)
