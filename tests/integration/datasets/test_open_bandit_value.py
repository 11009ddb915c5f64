"""The off-policy page of Open Bandit: right, where a user finds it, and not computed twice."""

import io
import os
import subprocess
import tarfile

import numpy as np
import pandas as pd
import pytest
from lib.projects import REPOSITORY

from liftloop.datasets.open_bandit import CAMPAIGNS, OpenBanditError, obtain, read_log, read_prior
from liftloop.datasets.open_bandit_value import CampaignValue, off_policy_values, write_off_policy_page
from liftloop.provenance.lineage import trace
from liftloop.settings import Settings
from liftloop.stack.parts import SCRIPTS
from liftloop.stats.thompson import slot_probabilities
from liftloop.storage.keys import off_policy_key
from liftloop.storage.runs import read_manifests
from liftloop.storage.store import Store

KEY = off_policy_key("open_bandit")


@pytest.fixture(scope="module")
def sdist(object_store: Settings) -> bytes:
    return obtain(object_store.home / "cache")


@pytest.fixture(scope="module")
def values(sdist: bytes) -> dict[str, CampaignValue]:
    return {value.campaign: value for value in off_policy_values(sdist)}


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_the_figures_are_those_of_the_logs(sdist: bytes, values: dict[str, CampaignValue], campaign: str) -> None:
    random, live = (pd.read_csv(io.BytesIO(read_log(sdist, policy, campaign))) for policy in ("random", "bts"))
    value, prior = values[campaign], read_prior(sdist, campaign)
    assert value.on_policy.estimate == pytest.approx(live["click"].mean())
    assert value.logged.estimate == pytest.approx(random["click"].mean())
    chosen = slot_probabilities(prior["alpha"], prior["beta"], 3, seed=1)  # another seed: other draws
    weight = chosen[random["item_id"], random["position"] - 1] / random["propensity_score"]
    assert value.estimates["IPS"].estimate == pytest.approx((weight * random["click"]).mean(), rel=0.05)
    by_weight = np.average(random["click"], weights=weight)
    assert value.estimates["SNIPS"].estimate == pytest.approx(by_weight, rel=0.05)
    assert value.effective_sample_size == pytest.approx(weight.sum() ** 2 / (weight**2).sum(), rel=0.05)
    shown = pd.crosstab(live["item_id"], live["position"], normalize="columns").reindex(
        range(len(chosen)), fill_value=0
    )
    assert value.agreement == pytest.approx(np.corrcoef(shown.to_numpy().ravel(), chosen.ravel())[0, 1], abs=0.01)
    assert all(estimate.low < value.on_policy.high and estimate.high > 0 for estimate in value.estimates.values())


def fetch(settings: Settings) -> str:
    environment = os.environ | settings.as_environment()
    done = subprocess.run(
        [SCRIPTS / "liftloop", "fetch", "open-bandit"], env=environment, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("sdist")
def test_fetching_the_logs_makes_the_page_once(object_store: Settings) -> None:
    store = Store(object_store)
    told = fetch(object_store)
    page = object_store.home / KEY
    assert f"off-policy page: {page}" in told
    assert page.read_bytes() == store.get(KEY)
    assert all(f"Campaign {campaign}" in page.read_text() for campaign in CAMPAIGNS)

    (made,) = store.list(KEY)
    fetch(object_store)
    assert list(store.list(KEY)) == [made]
    (run,) = read_manifests(store, "off_policy")
    assert (run.status, [step.name for step in run.steps]) == ("completed", ["off_policy"])
    landed = {end.ref.key for end in trace(store, KEY).ends()}
    assert landed == {item.key for policy in ("random", "bts") for item in store.list(f"landing/open_bandit/{policy}/")}
    assert len(landed) == 42  # two policies, three campaigns, seven days


def test_a_package_without_the_prior_is_named(object_store: Settings) -> None:
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w:gz").close()
    store = Store(object_store)
    store.delete([KEY])
    with pytest.raises(OpenBanditError, match=r"has no file .*prior_bts\.yaml"):
        write_off_policy_page(store, empty.getvalue())
    assert store.find(KEY) is None
