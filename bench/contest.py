"""One set of the quality benchmark: who predicted its hold-out how well, and by how much ours is ahead."""

from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from bench.measure import Case
from liftloop.evaluation.rewards import RewardSample
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval, bootstrap_mean
from liftloop.stats.scoring import area_under_roc, log_loss, log_loss_per_row, normalized_entropy

OURS, CONSTANT, TRUTH = "ours", "constant", "true probabilities"
TRUTH_GOAL = 1.03


@dataclass(frozen=True)
class Entrant:
    """What a contestant predicts for the hold-out, shape (rows,), and how it came to that."""

    holdout: Floats
    how: str = ""
    seconds: float = 0.0


@dataclass
class Contest:
    """The rewards of a hold-out, and who predicted them."""

    name: str
    outcomes: RewardSample
    entrants: dict[str, Entrant] = field(default_factory=dict)

    def log_loss(self, name: str) -> float:
        return log_loss(self.outcomes.reward, self.entrants[name].holdout)

    def excess(self, rival: str) -> Interval:
        """Our log loss less the rival's, in nats per impression, by the paired bootstrap."""
        ours, theirs = (log_loss_per_row(self.outcomes.reward, self.entrants[name].holdout) for name in (OURS, rival))
        return bootstrap_mean(ours - theirs, **self.outcomes.options)

    def cases(self) -> list[Case]:
        """Against the peer that has the best claim to be ahead, the constant, and the truth where it is known.

        Ours is tied with a peer as long as the interval of the excess includes 0: that is the goal of the ratio.
        """
        peers = self.entrants.keys() - {OURS, CONSTANT, TRUTH}
        excess, hardest = max(((self.excess(name), name) for name in peers), key=lambda each: each[0].low)
        by_chance = (excess.estimate - excess.low) / self.log_loss(hardest)
        goals = {hardest: 1 + by_chance, CONSTANT: 1.0, TRUTH: TRUTH_GOAL}
        known = {rival: goal for rival, goal in goals.items() if rival in self.entrants}
        ours = self.log_loss(OURS)
        return [
            Case(f"{self.name}, {rival}", ours, self.log_loss(rival), goal, "nats") for rival, goal in known.items()
        ]

    def scores(self) -> dict[str, dict[str, Any]]:
        """By contestant, best first."""
        return {name: self._score(name) for name in sorted(self.entrants, key=self.log_loss)}

    def _score(self, name: str) -> dict[str, Any]:
        reward, entrant, excess = self.outcomes.reward, self.entrants[name], self.excess(name)
        return {
            "log_loss": round(self.log_loss(name), 5),
            "normalized_entropy": round(normalized_entropy(reward, entrant.holdout), 4),
            "auc": round(area_under_roc(reward, entrant.holdout), 4),
            "excess": [round(value, 5) for value in (excess.estimate, excess.low, excess.high)],
            "seconds": round(entrant.seconds, 1),
            "how": entrant.how,
        }

    def table(self) -> Table:
        """The scores, as `excess` our log loss less theirs."""
        rows = self.outcomes
        title = f"{self.name}: hold-out of {rows.reward.size:,} impressions, {rows.rewards:,} with a reward"
        names = ("contestant", "log loss", "NE", "AUC", "ours less its, 95 % interval", "seconds", "")
        table = Table(*names, box=None, title=title, title_justify="left")
        for name, score in self.scores().items():
            excess = "" if name == OURS else "{:+.5f} [{:+.5f}, {:+.5f}]".format(*score["excess"])
            figures = (f"{score['log_loss']:.5f}", f"{score['normalized_entropy']:.4f}", f"{score['auc']:.4f}")
            table.add_row(name, *figures, excess, f"{score['seconds']:.0f}", score["how"])
        return table
