"""Names and constants of the simulated publisher, the same for every seed."""

from pathlib import Path

import numpy as np
import yaml

from liftloop.datasets.simulated.draws import FloatArray

PLACEMENTS = tuple(f"{site}-{spot}" for site in ("news", "weather", "recipes") for spot in ("top", "side", "feed"))
PLACEMENT_SITES = tuple(placement.split("-")[0] for placement in PLACEMENTS)
PLACEMENT_UTC_OFFSET_HOURS = np.repeat([0, 1, 9], 3)  # three sites, each in its own zone
PLACEMENT_SHARE = np.array([0.20, 0.13, 0.11, 0.14, 0.09, 0.08, 0.11, 0.08, 0.06])
PLACEMENT_COST_MICROS = np.array([620, 380, 450, 560, 340, 410, 590, 360, 430])  # paid to the site per impression

SEGMENTS = ("student", "parent", "gamer", "traveller", "athlete", "homeowner", "fashion", "tech")
SEGMENT_SHARE = np.array([0.19, 0.17, 0.14, 0.13, 0.11, 0.10, 0.09, 0.07])
DEVICES = ("phone", "desktop", "tablet")
DEVICE_SHARE = np.array([0.58, 0.31, 0.11])
HABITUAL_DEVICE_SHARE = 0.85
ENGAGEMENT_MULTIPLIER = np.geomspace(0.5, 2.0, 5)  # hidden: no column of the log carries it
ENGAGEMENT_SHARE = np.array([0.15, 0.2, 0.3, 0.2, 0.15])

ADS = tuple(f"ad-{index:02d}" for index in range(80))
ADS_PER_CAMPAIGN = 4
CAMPAIGNS = tuple(f"camp-{index:02d}" for index in range(20))
CAMPAIGNS_PER_ADVERTISER = 4
ADVERTISERS = tuple(f"adv-{index}" for index in range(5))
CATEGORIES = ("food", "travel", "games", "clothes", "finance")
FORMATS = 4  # each placement takes one format, and a quarter of all ads have it

POLICIES = ("uniform", "softmax_ctr", "epsilon_greedy_segment")
POLICY_SHARE = np.array([0.4, 0.3, 0.3])
SOFTMAX_TEMPERATURE = 0.002  # in clicks per impression: the best ad is served about eight times as often as the worst
EPSILON = 0.3
ESTIMATE_IMPRESSIONS = 20_000  # per segment and ad: what the greedy policy learned its click rates from

_HOURS = np.arange(24)
HOURLY_TRAFFIC_SHARE = (1 + 0.75 * np.cos((_HOURS - 20) * np.pi / 12)) / 24  # by local hour: a peak at 20:00
HOURLY_CLICK_EFFECT = 0.35 * np.cos((_HOURS - 22) * np.pi / 12)  # added to the log of the click probability


def production_click_rates() -> FloatArray:
    """Clicks per impression of the 80 real items, shape (80,); the file names its source."""
    items = yaml.safe_load(Path(__file__).with_name("item_counts.yaml").read_text())["items"]
    clicks, impressions = np.array(items, dtype=np.float64).T
    rates: FloatArray = clicks / impressions
    return rates
