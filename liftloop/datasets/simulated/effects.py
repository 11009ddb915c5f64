"""What moves in the simulated world, and how much."""

from typing import Annotated

from pydantic import Field

from liftloop.storage.frozen import Frozen

Size = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Effects(Frozen):
    """The sizes of what moves; 0 switches an effect off. The defaults are those of an ordinary ad market.

    The last two change how the log lands, and so its contract: see `landing.document_of`.
    """

    weekend_traffic: Share = 0.2  # by how much Saturdays and Sundays have less traffic
    weekday_clicks: Size = 0.1  # spread of the log of all click probabilities between weekdays
    day_shock: Size = 0.1  # and between days, beyond their weekday
    ad_drift: Size = 0.6  # spread of the log of an ad's click probability around its mean
    ad_drift_days: Annotated[float, Field(gt=0)] = 10.0  # after which the drift's correlation has fallen to 1 / e
    ad_lifetime_days: Size = 14.0  # mean; then the ad ends, and some days later another takes its place
    budget_days: Size = 1.5  # what a campaign may spend in a day, in mean daily spends; paced over the day
    fatigue: Size = 0.15  # fall of the log with each doubling of the impressions that a user has seen that day
    position: Size = 0.3  # fall of the log from one position on the page to the next
    cookieless: Share = 0.3  # of the impressions, whose user is not logged
    late_files: Share = 0.1  # of the files of impressions, that land one or two days after their own
    outcome_files: bool = True  # whether outcomes land in a file of their own on the day they become known


STATIC = Effects(
    weekend_traffic=0,
    weekday_clicks=0,
    day_shock=0,
    ad_drift=0,
    ad_lifetime_days=0,
    budget_days=0,
    fatigue=0,
    position=0,
    cookieless=0,
    late_files=0,
    outcome_files=False,
)
LANDS_WHOLE = Effects(late_files=0, outcome_files=False)  # moves, and each file lands in time with its outcomes
