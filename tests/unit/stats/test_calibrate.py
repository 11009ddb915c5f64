"""Calibration: recovers a known line or curve, degrades safely, survives storage."""

from functools import partial

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import expit, logit

from liftloop.stats.calibrate import fit_calibration, fit_isotonic, fit_platt
from liftloop.stats.calibration import IDENTITY, IsotonicCalibration, PlattCalibration
from liftloop.stats.columns import Floats
from liftloop.stats.scoring import area_under_roc, calibration_ratio, log_loss


def rare_clicks(rows: int, slope: float, intercept: float) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    logits = rng.normal(-4, 1, rows)
    return (rng.random(rows) < expit(slope * logits + intercept)).astype(float), expit(logits)


def test_a_line_is_applied_on_the_logit_scale() -> None:
    calibration = PlattCalibration(slope=2, intercept=np.log(3))
    np.testing.assert_allclose(calibration.apply([0.5, 0.75]), [0.75, 27 / 28])


def test_fit_finds_the_line_that_made_the_clicks() -> None:
    reward, probability = rare_clicks(200_000, slope=0.6, intercept=-1)
    found = fit_platt(reward, probability)
    assert found.slope == pytest.approx(0.6, abs=0.05)
    assert found.intercept == pytest.approx(-1, abs=0.15)
    calibrated = found.apply(probability)
    assert calibration_ratio(reward, calibrated) == pytest.approx(1, abs=1e-3)
    assert log_loss(reward, calibrated) < log_loss(reward, probability)
    assert area_under_roc(reward, calibrated) == pytest.approx(area_under_roc(reward, probability))


@pytest.mark.parametrize("noise", [0, 1e-9])
def test_constant_prediction_keeps_slope_one_and_moves_to_the_smoothed_rate(noise: float) -> None:
    found = fit_platt([1, 0, 0, 0], [0.3 + noise, 0.3, 0.3, 0.3])
    assert found.slope == 1
    np.testing.assert_allclose(found.apply([0.3]), (2 / 3 + 3 * 1 / 5) / 4, rtol=1e-6)


def test_two_predictions_reach_the_smoothed_rate_of_each() -> None:
    found = fit_platt([1, 1, 0, 0, 0, 1], [0.7, 0.7, 0.7, 0.2, 0.2, 0.2])
    high, low = 4 / 5, 1 / 5  # three rewards and three without
    np.testing.assert_allclose(found.apply([0.7, 0.2]), [(2 * high + low) / 3, (2 * low + high) / 3], rtol=1e-6)


def test_a_separable_sample_gives_a_finite_line() -> None:
    found = fit_platt([0, 0, 1, 1], [0.1, 0.1, 0.9, 0.9])
    np.testing.assert_allclose(found.apply([0.1, 0.9]), [1 / 4, 3 / 4], rtol=1e-6)


def test_an_inverted_ranking_becomes_a_constant_not_a_reversal() -> None:
    found = fit_platt([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9])
    assert found.slope == 0
    np.testing.assert_allclose(found.apply([0.1, 0.9]), 0.5, rtol=1e-6)


def test_certain_and_wrong_predictions_do_not_stop_the_search() -> None:
    reward, probability = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0.625, 0.625, 0.1])
    target = np.where(reward == 1, 2 / 3, 1 / 6)
    calibrated = fit_platt(reward, probability).apply(probability)
    logits = np.log(np.clip(probability, 1e-12, 1) / (1 - probability))
    np.testing.assert_allclose([np.mean(calibrated - target), np.mean((calibrated - target) * logits)], 0, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_certain_predictions_stay_finite(precision: str) -> None:
    certain = np.array([0, 1, 1, 0]).astype(precision)
    calibrated = fit_platt([0, 1, 1, 0], certain).apply(certain)
    assert ((calibrated > 0) & (calibrated < 1)).all()


def test_row_order_does_not_matter() -> None:
    reward, probability = rare_clicks(5_000, slope=1, intercept=0)
    order = np.random.default_rng(1).permutation(len(reward))
    first, second = fit_platt(reward, probability), fit_platt(reward[order], probability[order])
    assert (second.slope, second.intercept) == pytest.approx((first.slope, first.intercept), rel=1e-5)


def test_calibration_survives_json() -> None:
    found = fit_platt([1, 0, 1, 0], [0.9, 0.8, 0.3, 0.1])
    assert PlattCalibration.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    "json",
    [
        '{"slope": -0.1, "intercept": 0}',
        '{"slope": NaN, "intercept": 0}',
        '{"slope": 1, "intercept": Infinity}',
        '{"slope": 1}',
        '{"slope": 1, "intercept": 0, "kind": "platt"}',
    ],
)
def test_stored_calibrations_that_are_refused(json: str) -> None:
    with pytest.raises(ValidationError):
        PlattCalibration.model_validate_json(json)


@pytest.mark.parametrize(
    ("reward", "probability", "message"),
    [
        ([0, 0], [0.1, 0.2], "reward: all 2 rows are 0; both 0 and 1 are needed"),
        ([1, 1], [0.1, 0.2], "reward: all 2 rows are 1; both 0 and 1 are needed"),
        ([0, 0.5], [0.1, 0.2], "reward: 1 of 2 rows are not 0 or 1, first 0.5 at row 1"),
        ([0, 1], [0.1, 1.2], r"probability: 1 of 2 rows are not in \[0, 1\], first 1.2 at row 1"),
        ([0, 1], [0.1, np.nan], "probability: 1 of 2 rows are not finite"),
        ([0, 1], [0.1, 0.2, 0.3], "lengths differ: reward has 2, probability has 3"),
        ([], [], "reward: .* at least one row"),
    ],
)
def test_fits_that_are_refused(reward: list[float], probability: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_platt(reward, probability)


def bent_clicks(rows: int) -> tuple[Floats, Floats, Floats]:
    """Predictions that are right below 0.2 and three times too low on the logit scale above."""
    rng = np.random.default_rng(3)
    logits = rng.normal(-1.5, 1, rows)
    truth = expit(np.where(logits < -1.4, logits, -1.4 + 3 * (logits + 1.4)))
    return (rng.random(rows) < truth).astype(float), expit(logits), truth


MEAN_RATE = 0.01
calibrate = partial(fit_calibration, mean_rate=MEAN_RATE)


def test_a_curve_is_found_where_no_line_fits() -> None:
    reward, probability, truth = bent_clicks(40_000)
    found = calibrate(reward, probability)
    assert isinstance(found, IsotonicCalibration)
    line = fit_platt(reward, probability)
    assert np.abs(found.apply(probability) - truth).mean() < 0.3 * np.abs(line.apply(probability) - truth).mean()
    assert calibration_ratio(reward, found.apply(probability)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("rows", [300, 40_000])
def test_a_line_is_kept_where_it_fits_or_little_is_known(rows: int) -> None:
    reward, probability = rare_clicks(rows, slope=0.6, intercept=2)
    assert calibrate(reward, probability) == fit_platt(reward, probability)
    bent, predicted, _ = bent_clicks(200)
    assert isinstance(calibrate(bent, predicted), PlattCalibration)


def test_what_says_nothing_becomes_the_mean_rate() -> None:
    random = np.random.default_rng(2)
    reward, probability = random.random(5_000) < 0.02, random.uniform(0.01, 0.03, 5_000)
    for nothing in (calibrate(reward, probability), calibrate([1, 0, 0], [0.2, 0.1, 0.3])):
        np.testing.assert_allclose(nothing.apply([0.001, 0.5]), MEAN_RATE)


def best_of_noise(candidates: int, seed: int) -> tuple[Floats, Floats]:
    """Few clicks, and the predictions that fit them best among several that say nothing."""
    rng = np.random.default_rng(seed)
    reward = (rng.random(4_000) < 0.01).astype(float)
    predictions = expit(logit(0.01) + rng.normal(0, 0.3, (candidates, 4_000)))
    return reward, min(predictions, key=lambda each: log_loss(reward, each))


@pytest.mark.parametrize("candidates", [1, 5, 31])
def test_the_best_of_many_models_of_noise_is_noise(candidates: int) -> None:
    found = [calibrate(*best_of_noise(candidates, seed), candidates=candidates) for seed in range(200)]
    assert sum(each.apply([0.5])[0] != pytest.approx(MEAN_RATE) for each in found) <= 16


def test_what_is_right_stays_as_it_is() -> None:
    assert calibrate(*rare_clicks(40_000, slope=1, intercept=0)) == IDENTITY


def test_a_curve_never_ties_what_was_ranked() -> None:
    reward, probability, _ = bent_clicks(2_000)
    found = fit_isotonic(reward, probability)
    ranked = np.linspace(1e-4, 1 - 1e-4, 999)
    assert (np.diff(found.apply(ranked)) > 0).all()
    assert area_under_roc(reward, found.apply(probability)) == pytest.approx(area_under_roc(reward, probability))


def test_a_curve_through_separable_rows_is_finite() -> None:
    found = fit_isotonic([0, 0, 1, 1], [0.1, 0.1, 0.9, 0.9])
    np.testing.assert_allclose(found.apply([0.1, 0.9]), [0.5 / 3, 2.5 / 3])
    constant = fit_isotonic([1, 0, 0, 0], [0.3, 0.3, 0.3, 0.3])
    np.testing.assert_allclose(constant.apply([0.3]), 0.25)


@pytest.mark.parametrize("kept", [0.5, 0.1, 0.02])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.6, -1)])
def test_a_sampled_log_is_calibrated_as_the_full_one(kept: float, slope: float, intercept: float) -> None:
    reward, probability = rare_clicks(200_000, slope, intercept)
    is_kept = (reward == 1) | (np.random.default_rng(5).random(reward.size) < kept)
    found = calibrate(reward[is_kept], probability[is_kept], negatives_kept=kept)
    assert isinstance(found, PlattCalibration)
    assert found.slope == pytest.approx(slope, abs=0.06)
    assert calibration_ratio(reward, found.apply(probability)) == pytest.approx(1, abs=0.03)


def test_a_curve_on_a_sampled_log_is_that_of_the_full_one() -> None:
    reward, probability, truth = bent_clicks(40_000)
    is_kept = (reward == 1) | (np.random.default_rng(5).random(reward.size) < 0.3)
    found = calibrate(reward[is_kept], probability[is_kept], negatives_kept=0.3)
    assert isinstance(found, IsotonicCalibration)
    assert np.abs(found.apply(probability) - truth).mean() < 0.01


@pytest.mark.parametrize("kept", [1.0, 0.1, 0.02])
def test_a_ranking_in_a_sampled_log_is_as_telling_as_in_the_full_one(kept: float) -> None:
    """The worlds of few clicks in which weights in place of an offset lost the ranking of the true probabilities."""
    became_constant = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth = expit(rng.normal(-4.65, 0.35, 28_000))
        reward = (rng.random(truth.size) < truth).astype(float)
        is_kept = (reward == 1) | (rng.random(truth.size) < kept)
        found = calibrate(reward[is_kept], truth[is_kept], negatives_kept=kept)
        became_constant += isinstance(found, PlattCalibration) and found.slope == 0
    assert became_constant == 0


def test_curves_survive_json_and_bad_ones_are_refused() -> None:
    found = fit_isotonic(*bent_clicks(500)[:2])
    assert IsotonicCalibration.model_validate_json(found.model_dump_json()) == found
    for bad in (
        {"scores": (0, 0), "logits": (0, 1)},
        {"scores": (0, 1), "logits": (1, 0)},
        {"scores": (), "logits": ()},
    ):
        with pytest.raises(ValidationError):
            IsotonicCalibration.model_validate(bad)
