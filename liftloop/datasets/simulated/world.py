"""The simulated world: ads, placements, logging policies, and the true click probability of every (context, ad).

The click probability is log-linear in discrete effects, then scaled ad by ad so that its mean over the contexts which
may show the ad equals the real item's production click rate. Everything here is drawn from the seed alone. The largest
click probability over 1,500 seeds is 0.39, so nothing needs clipping.
"""

from dataclasses import dataclass

import numpy as np

from liftloop.datasets.simulated.catalogue import (
    ADS,
    ADS_PER_CAMPAIGN,
    CATEGORIES,
    DEVICE_SHARE,
    DEVICES,
    ENGAGEMENT_MULTIPLIER,
    ENGAGEMENT_SHARE,
    EPSILON,
    ESTIMATE_IMPRESSIONS,
    FORMATS,
    HOURLY_CLICK_EFFECT,
    HOURLY_TRAFFIC_SHARE,
    PLACEMENT_SHARE,
    PLACEMENT_UTC_OFFSET_HOURS,
    PLACEMENTS,
    POLICIES,
    SEGMENT_SHARE,
    SEGMENTS,
    SOFTMAX_TEMPERATURE,
    production_click_rates,
)
from liftloop.datasets.simulated.draws import FloatArray, IntArray

# A context is (placement, segment, engagement, device, UTC hour); its id is the index into this shape, row by row.
CONTEXT_SHAPE = (len(PLACEMENTS), len(SEGMENTS), len(ENGAGEMENT_MULTIPLIER), len(DEVICES), 24)
LOCAL_HOUR = (np.arange(24) + PLACEMENT_UTC_OFFSET_HOURS[:, None]) % 24  # (placements, UTC hours)


@dataclass(frozen=True)
class Ads:
    """One element per ad, all of shape (ads,)."""

    click_rate: FloatArray  # the production click rate it is calibrated to
    campaign: IntArray
    format: IntArray
    category: IntArray
    bid_micros: IntArray  # the advertiser pays it per click
    conversion_rate: FloatArray  # given a click


@dataclass(frozen=True)
class World:
    ads: Ads
    eligible_ads: IntArray  # (placements, eligible ads of one placement), ascending
    context_share: FloatArray  # CONTEXT_SHAPE, sums to 1
    click_probability: FloatArray  # CONTEXT_SHAPE + (eligible ads of one placement,)
    propensity: FloatArray  # (policies, placements, segments, eligible ads of one placement)


def build_world(seed: int) -> World:
    """The world of a seed; the same for any number of impressions and days."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    ads = _draw_ads(rng)
    placement_format = rng.permutation(np.arange(len(PLACEMENTS)) % FORMATS)
    eligible_ads = np.array([np.flatnonzero(ads.format == wanted) for wanted in placement_format])
    share = _context_share()
    click_probability = _calibrate(_draw_lift(rng, ads.category[eligible_ads]), share, eligible_ads, ads.click_rate)
    estimate = _estimate_segment_click_rate(rng, click_probability, share, eligible_ads)
    return World(ads, eligible_ads, share, click_probability, _propensity(ads.click_rate, estimate, eligible_ads))


def _draw_ads(rng: np.random.Generator) -> Ads:
    place = rng.permutation(len(ADS))
    campaign = place // ADS_PER_CAMPAIGN
    return Ads(
        click_rate=production_click_rates(),
        campaign=campaign,
        format=place % FORMATS,
        category=campaign % len(CATEGORIES),
        bid_micros=rng.integers(12, 80, len(ADS)) * 10_000,
        conversion_rate=rng.beta(3, 40, len(ADS)),
    )


def _context_share() -> FloatArray:
    placement_hour = PLACEMENT_SHARE[:, None] * HOURLY_TRAFFIC_SHARE[LOCAL_HOUR]
    share: FloatArray = np.einsum("ph,s,e,d->psedh", placement_hour, SEGMENT_SHARE, ENGAGEMENT_SHARE, DEVICE_SHARE)
    return share


def _draw_lift(rng: np.random.Generator, category: IntArray) -> FloatArray:
    """Relative click probability, shape CONTEXT_SHAPE + (eligible ads,); `category` is that of each eligible ad."""
    placements, segments, _, devices, hours = CONTEXT_SHAPE
    log_lift = (
        _effects(rng, (placements, 1, 1, 1, 1, 1), spread=0.85)
        + _effects(rng, (placements, 1, 1, devices, 1, 1), spread=0.55)
        + _effects(rng, (1, segments, 1, 1, 1, 1), spread=0.35)
        + np.log(ENGAGEMENT_MULTIPLIER)[:, None, None, None]
        + HOURLY_CLICK_EFFECT[LOCAL_HOUR].reshape(placements, 1, 1, 1, hours, 1)
    )
    segment_category = _effects(rng, (segments, len(CATEGORIES)), spread=0.7)
    # (segments, placements, eligible ads) -> (placements, segments, 1, 1, 1, eligible ads)
    lift: FloatArray = np.exp(log_lift + segment_category[:, category].swapaxes(0, 1)[:, :, None, None, None, :])
    return lift


def _effects(rng: np.random.Generator, shape: tuple[int, ...], *, spread: float) -> FloatArray:
    """Normal draws, centred and scaled to exactly `spread`, so that every seed is about as hard to learn."""
    draws = rng.normal(size=shape)
    effects: FloatArray = (draws - draws.mean()) / draws.std() * spread
    return effects


def _calibrate(lift: FloatArray, share: FloatArray, eligible_ads: IntArray, click_rate: FloatArray) -> FloatArray:
    """Scales each ad's lift so that its share-weighted mean over all contexts that may show it is its click rate."""
    weighted = np.einsum("psedh,psedhr->pr", share, lift)
    lift_by_ad = np.bincount(eligible_ads.ravel(), weighted.ravel(), len(ADS))
    share_by_ad = np.bincount(eligible_ads.ravel(), np.repeat(PLACEMENT_SHARE, eligible_ads.shape[1]), len(ADS))
    scale = click_rate * share_by_ad / lift_by_ad
    click_probability: FloatArray = lift * scale[eligible_ads][:, None, None, None, None, :]
    return click_probability


def _estimate_segment_click_rate(
    rng: np.random.Generator, click_probability: FloatArray, share: FloatArray, eligible_ads: IntArray
) -> FloatArray:
    """The publisher's estimate for each segment and eligible ad, shape (placements, segments, eligible ads)."""
    clicks = np.zeros((len(SEGMENTS), len(ADS)))
    impressions = np.zeros_like(clicks)
    for placement, ads in enumerate(eligible_ads):
        clicks[:, ads] += np.einsum("sedh,sedhr->sr", share[placement], click_probability[placement])
        impressions[:, ads] += share[placement].sum(axis=(1, 2, 3))[:, None]
    observed = rng.binomial(ESTIMATE_IMPRESSIONS, clicks / impressions) / ESTIMATE_IMPRESSIONS
    return observed[:, eligible_ads].swapaxes(0, 1)


def _propensity(click_rate: FloatArray, estimate: FloatArray, eligible_ads: IntArray) -> FloatArray:
    """P(ad | context) of each policy in the order of `POLICIES`."""
    eligible = eligible_ads.shape[1]
    propensity = np.full((len(POLICIES), *estimate.shape), 1 / eligible)
    weight = np.exp(click_rate[eligible_ads] / SOFTMAX_TEMPERATURE)
    propensity[1] = (weight / weight.sum(axis=1, keepdims=True))[:, None, :]
    is_greedy = np.arange(eligible) == estimate.argmax(axis=2, keepdims=True)
    propensity[2] = EPSILON / eligible + (1 - EPSILON) * is_greedy
    return propensity
