"""Comparison of two versions on a real store: paired, on impressions that neither has seen; and the card of one."""

import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from lib.feature_lake import write_lake
from lib.training_lake import land, make_contract, make_rows

from liftloop.contract.contract import Contract
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.gate.card.page import model_card
from liftloop.gate.compare import ComparisonError, compare
from liftloop.gate.evidence import Evidence
from liftloop.gate.verdict import Verdict
from liftloop.model.model import Model
from liftloop.registry.load import load_model, register
from liftloop.registry.registry import Registry
from liftloop.registry.timeline import Timeline
from liftloop.registry.versions import ModelVersion
from liftloop.settings import ONE_PROCESS, Settings
from liftloop.stack.parts import SCRIPTS
from liftloop.stats.calibration import PlattCalibration
from liftloop.stats.scoring import log_loss
from liftloop.storage.store import Store
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import build_frame
from liftloop.training.train import train

ROWS_PER_DAY = 1_000


@pytest.fixture(scope="module")
def store(object_store: Settings) -> Store:
    return Store(object_store.model_copy(update={"dask_scheduler": ONE_PROCESS}))


@pytest.fixture(scope="module")
def contract() -> Contract:
    return make_contract(
        f"s{uuid4().hex[:8]}", training={"trials": 1, "maximum_rounds": 25}, gate={"exchangeable_days": True}
    )


@pytest.fixture(scope="module")
def frame(store: Store, contract: Contract) -> TrainingFrame:
    land(store, contract, make_rows(rows_per_day=ROWS_PER_DAY))
    return build_frame(store, contract)


@pytest.fixture(scope="module")
def version(store: Store, contract: Contract, frame: TrainingFrame) -> ModelVersion:
    return train(store, contract, frame, manifest="runs/train/r1/manifest.json")


@pytest.fixture(scope="module")
def weak(store: Store, contract: Contract, frame: TrainingFrame, version: ModelVersion) -> ModelVersion:
    """The same trees, and yet one probability for all."""
    model = load_model(store, version)
    spec = model.spec.model_copy(update={"calibration": PlattCalibration(slope=0, intercept=-2)})
    flat = Model(model.booster, spec)
    return register(
        Registry(store, contract.source),
        flat,
        training_fingerprint="weak",
        frame_fingerprint=frame.index.fingerprint,
        frame=frame.index.partitions,
        trained_until=frame.index.parts["validation"].end,
        metrics={},
    )


def test_the_better_model_is_named_with_an_interval(
    store: Store, contract: Contract, frame: TrainingFrame, version: ModelVersion, weak: ModelVersion
) -> None:
    found = compare(store, contract, version, weak)
    everything = found.rows[0]
    holdout = frame.holdout
    losses = [log_loss(holdout["click"], Timeline.load(store, each).predict(holdout)) for each in (version, weak)]
    assert everything.loss_reduction.estimate == pytest.approx(1 - losses[0] / losses[1])
    assert [everything.first.log_loss.estimate, everything.second.log_loss.estimate] == pytest.approx(losses)
    assert (everything.impressions, everything.rewards) == (len(holdout), holdout["click"].sum())
    assert everything.loss_reduction.low > 0
    assert found.words == f"{version.version} is better than {weak.version}."
    turned = compare(store, contract, weak, version)
    assert turned.words == found.words
    assert turned.rows[0].loss_reduction.high < 0
    assert (turned.since, turned.until) == (frame.index.parts["holdout"].start, frame.index.parts["holdout"].end)


def test_the_command_prints_what_was_found(
    store: Store, contract: Contract, version: ModelVersion, weak: ModelVersion, tmp_path: Path
) -> None:
    (tmp_path / "contracts").mkdir()
    declared = yaml.safe_dump(as_written(contract.model_dump(by_alias=True, exclude_none=True)))
    (tmp_path / "contracts" / f"{contract.source}.yaml").write_text(declared)
    environment = os.environ | store.settings.as_environment()
    arguments = ("compare", contract.source, version.version, weak.version)
    done = subprocess.run(
        [SCRIPTS / "liftloop", *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = compare(store, contract, version, weak)
    _, header, everything, *_, words = done.stdout.splitlines()
    names = f"{version.version} {weak.version} {version.version} reduces it by"
    assert " ".join(header.split()) == f"impressions clicks {names}"
    assert f"{found.rows[0].loss_reduction:+.2%}" in everything
    assert words == found.words


def as_written(value: Any) -> Any:
    """As a contract is written: durations as text."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f}s"
    if isinstance(value, dict):
        return {name: as_written(each) for name, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


def test_few_days_do_not_tell_which_is_better(
    store: Store, contract: Contract, version: ModelVersion, weak: ModelVersion
) -> None:
    moving = contract.model_copy(update={"gate": contract.gate.model_copy(update={"exchangeable_days": False})})
    assert compare(store, moving, version, weak).words.startswith("Fewer than 6 days do not tell whether")


def test_slices_with_enough_rewards_stand_below(
    store: Store, contract: Contract, frame: TrainingFrame, version: ModelVersion, weak: ModelVersion
) -> None:
    everything, *slices = compare(store, contract, version, weak).rows
    clicks = frame.holdout.groupby("placement_id")["click"].agg(["sum", "size"]).sort_values("sum", ascending=False)
    assert [each.name for each in slices] == [f"placement_id {value}" for value in clicks.index]
    assert [each.rewards for each in slices] == clicks["sum"].tolist()
    assert sum(each.impressions for each in slices) == everything.impressions


def test_what_cannot_be_told_is_said_so(
    store: Store, contract: Contract, frame: TrainingFrame, version: ModelVersion
) -> None:
    hasty = contract.training.model_copy(update={"maximum_rounds": 1})  # the first tree has most of what there is
    twin = train(store, contract.model_copy(update={"training": hasty}), frame)
    words = compare(store, contract, version, twin).words
    assert words == f"No significant difference between {version.version} and {twin.version}."


def test_the_same_version_twice_or_another_reward_is_refused(
    store: Store, contract: Contract, version: ModelVersion, weak: ModelVersion
) -> None:
    with pytest.raises(ComparisonError, match="are the same version"):
        compare(store, contract, version, version)
    with pytest.raises(ComparisonError, match="are models of different rewards"):
        compare(store, contract, version, weak.model_copy(update={"reward": "conversion"}))


def test_a_slice_that_the_newest_hold_out_lacks_is_named(
    store: Store, contract: Contract, version: ModelVersion, weak: ModelVersion
) -> None:
    sliced = contract.gate.model_copy(update={"slices": ("mood",)})
    with pytest.raises(ComparisonError, match=r"has no \['mood'\]"):
        compare(store, contract.model_copy(update={"gate": sliced}), version, weak)


def test_a_card_says_all_of_a_version(store: Store, contract: Contract, version: ModelVersion) -> None:
    evidence = Evidence(store, contract, version, None)
    verdict = Verdict(
        source=contract.source,
        version=version.version,
        champion=None,
        fingerprint="f",
        rows=len(evidence.holdout),
        rewards=1,
        scores=evidence.scores(),
        checks=(),
    )
    card = model_card(evidence, verdict)
    headings = ["Purpose", "Evidence", "Scores", "Reliability", "By placement_id", "Features", "Data", "Search"]
    places = [card.index(f"<h2>{heading}</h2>") for heading in [*headings, "Limits", "How to load it"]]
    assert places == sorted(places)
    assert "run runs/train/r1/manifest.json" in card
    assert "Outcome delay" not in card  # this log does not say when its outcomes were known


# The last tests: they bring a newer frame.


def test_the_newest_hold_out_counts_and_never_what_one_was_trained_on(
    store: Store, contract: Contract, frame: TrainingFrame, version: ModelVersion, weak: ModelVersion
) -> None:
    later = [
        row
        | {"impression_id": f"late-{row['impression_id']}"}
        | {name: row[name] + timedelta(days=5) for name in ("event_timestamp", "outcome_timestamp")}
        for row in make_rows(days=1, rows_per_day=ROWS_PER_DAY, seed=8)
    ]
    write_lake(store, contract, later, "late")
    update_tiles(store, contract)
    update_feature_tables(store, contract)
    newer_frame = build_frame(store, contract)
    newer = train(store, contract, newer_frame)
    for pair in ((version, weak), (version, newer), (newer, weak)):
        found = compare(store, contract, *pair)
        assert found.since >= max(frame.index.parts["validation"].end, newer_frame.index.parts["validation"].end)
        assert found.until == newer_frame.index.parts["holdout"].end
        assert found.rows[0].impressions == len(newer_frame.holdout)
