"""The Open Bandit sample: 6 x 10,000 real impressions of 24 to 30 November 2019, with their propensities.

Saito et al., "Open Bandit Dataset and Pipeline", 2021, arXiv:2008.07146 (data CC BY 4.0). It is part of the source
distribution of the PyPI package `obp`, so it can be fetched wherever pip works.
"""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from liftloop.errors import UserError

RELEASE = "obp-0.5.7"
SDIST = f"{RELEASE}.tar.gz"
SDIST_SHA256 = "3060d67fedfcfadf1e7a6f2608987f74412b5eb74d2c567edeb147595c68f2a0"
POLICIES = ("random", "bts")
CAMPAIGNS = ("all", "men", "women")


class OpenBanditError(UserError):
    """The sample could not be downloaded or is damaged; the message says what to do."""


def obtain(cache: Path) -> bytes:
    """The source distribution with the sample; downloaded to `cache` unless it is there.

    Raises:
        OpenBanditError: pip cannot download it, or its SHA-256 differs.
    """
    sdist = cache / SDIST
    if not sdist.exists():
        _download(sdist)
    return _verified(sdist)


def land_sample(sdist: bytes, land: Callable[[str, bytes], None]) -> list[str]:
    """Land the sample as daily files, and return their keys.

    The keys are `{policy}/{campaign}/{date}.csv`, split by UTC date, and `reference/{campaign}/item_context.csv`.

    Rows are copied byte for byte; only the unnamed first column gets the name `row`. The item contexts of the two
    policies differ only in the salt of their hashed categories, so the contexts of `random` are used for both.

    Raises:
        OpenBanditError: a file is missing.
    """
    keys = []
    with tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as archive:
        for campaign in CAMPAIGNS:
            files = {f"reference/{campaign}/item_context.csv": _read(archive, "random", campaign, "item_context")}
            for policy in POLICIES:
                daily = _by_date(_read(archive, policy, campaign, campaign))
                files |= {f"{policy}/{campaign}/{date}.csv": content for date, content in daily.items()}
            for key, content in files.items():
                land(key, content)
                keys.append(key)
    return keys


def read_log(sdist: bytes, policy: str, campaign: str) -> bytes:
    """The whole log of one policy in one campaign, as CSV."""
    with tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as archive:
        return _read(archive, policy, campaign, campaign)


def read_prior(sdist: bytes, campaign: str) -> dict[str, list[float]]:
    """`alpha` and `beta` by item: Thompson sampling's prior for a campaign at the start of the log.

    Raises:
        OpenBanditError: the file is missing.
    """
    with tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as archive:
        found: dict[str, list[float]] = yaml.safe_load(_member(archive, "obp/policy/conf/prior_bts.yaml"))[campaign]
    return found


def _download(sdist: Path) -> None:
    sdist.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=sdist.parent) as folder:
        # The requirement contains the hash, so that pip runs no code of an unexpected package.
        requirement = Path(folder, "requirements.txt")
        requirement.write_text(f"{RELEASE.replace('-', '==')} --hash=sha256:{SDIST_SHA256}\n")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
        ]
        options = ["--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "-d", folder]
        # Set in the environment, which pip's build processes inherit, so that the user's cache stays unchanged.
        environment = os.environ | {"PIP_NO_CACHE_DIR": "1"}
        command = [*pip, *options, "-r", str(requirement)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise OpenBanditError(
                f"pip could not download {SDIST} ({_reason(done.stderr)}). Check that pip reaches a package index, "
                f"or copy the file to {sdist.parent} yourself, then run `liftloop fetch open-bandit` again"
            )
        os.replace(Path(folder, SDIST), sdist)


def _reason(stderr: str) -> str:
    """The line that says why pip failed."""
    lines = stderr.strip().splitlines() or ["no output"]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])


def _verified(sdist: Path) -> bytes:
    content = sdist.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SDIST_SHA256:
        raise OpenBanditError(
            f"{sdist} has SHA-256 {digest}, expected {SDIST_SHA256}: it is damaged or not the published file. "
            "Delete it and run `liftloop fetch open-bandit` again"
        )
    return content


def _read(archive: tarfile.TarFile, policy: str, campaign: str, table: str) -> bytes:
    """One CSV of the archive, its nameless first column named `row`."""
    return b"row" + _member(archive, f"obp/dataset/obd/{policy}/{campaign}/{table}.csv")


def _member(archive: tarfile.TarFile, path: str) -> bytes:
    try:
        member = archive.extractfile(f"{RELEASE}/{path}")
    except KeyError:
        member = None
    if member is None:
        raise OpenBanditError(f"{SDIST} has no file {RELEASE}/{path}; delete it from the cache and fetch it again")
    return member.read()


def _by_date(table: bytes) -> dict[str, bytes]:
    """The table split by date of the second column, `timestamp`, which is in UTC; each part has the header."""
    header, *rows = table.splitlines(keepends=True)
    pieces: dict[str, list[bytes]] = {}
    for row in rows:
        date = row.split(b",", 2)[1][:10].decode()
        pieces.setdefault(date, [header]).append(row)
    return {date: b"".join(lines) for date, lines in pieces.items()}
