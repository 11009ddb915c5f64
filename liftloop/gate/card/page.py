"""The model card: the model and the gate's evidence on one self-contained page."""

from collections.abc import Sequence

from liftloop.gate.card import facts
from liftloop.gate.card.outcome_delay import outcome_delay_plot
from liftloop.gate.checks.slices import slice_entropies, slice_interval
from liftloop.gate.evidence import Evidence
from liftloop.gate.verdict import GroupRow, Verdict
from liftloop.reporting.html import Figures, Plot, Section, Table, Text, render_report
from liftloop.reporting.plots import interval_plot, reliability_plot
from liftloop.stats.interval import Interval
from liftloop.stats.scoring import area_under_roc, reliability_table

SLICES_SHOWN = 12


def model_card(evidence: Evidence, verdict: Verdict) -> str:
    """One page on a version: purpose, verdict and evidence, data and training, limits."""
    holdout = evidence.frame.index.parts["holdout"]
    span = f"hold-out from {holdout.start:%Y-%m-%d %H:%M} to {holdout.end:%Y-%m-%d %H:%M} UTC"
    sections: list[Section | None] = [
        _figures(evidence, verdict),
        Text("Verdict", [verdict.summary]),
        facts.purpose(evidence.contract),
        evidence_table(verdict),
        _scores(verdict, evidence),
        facts.decisions_table(evidence.contract, verdict),
        facts.arms_table(evidence.contract, verdict),
    ]
    if "model" in verdict.scores:
        sections += [_reliability(evidence)]
        sections += [_slice_plot(evidence, column) for column in evidence.contract.gate.slices]
        sections += [_groups(column, verdict.groups) for column in dict.fromkeys(row.column for row in verdict.groups)]
        sections += [facts.importance_plot(evidence.model)]
    sections += [
        facts.data_table(evidence.frame.index, evidence.version, evidence.sample.negatives_kept),
        outcome_delay_plot(evidence.contract, evidence.frame),
        facts.trials_table(evidence.version),
        facts.limits(evidence.contract, evidence.frame.index, verdict),
        facts.loading(evidence.version),
    ]
    title = f"Model {verdict.version} of {verdict.source}"
    return render_report(
        title,
        [section for section in sections if section],
        subtitle=f"predicts {evidence.contract.reward}; created on {evidence.version.created_at:%Y-%m-%d}; {span}",
        verdict=verdict.verdict,
    )


def evidence_table(verdict: Verdict) -> Table:
    rows = [[check.title, check.observed, check.threshold, check.verdict, check.reason] for check in verdict.checks]
    return Table("Evidence", ["check", "observed", "threshold", "verdict", "reason"], rows)


def _figures(evidence: Evidence, verdict: Verdict) -> Figures:
    parts = evidence.frame.index.parts
    return Figures(
        {
            "training impressions": parts["training"].rows,
            "hold-out impressions": verdict.rows,
            f"hold-out {evidence.contract.reward}s": verdict.rewards,
            "AUC": _area_under_roc(evidence) if "model" in verdict.scores else None,
            "boosting rounds": evidence.version.metrics.get("rounds"),
            "size": f"{evidence.version.size_bytes / 2**10:,.0f} KiB",
            "compared with": verdict.champion or "no champion",
        }
    )


def _area_under_roc(evidence: Evidence) -> str:
    return f"{area_under_roc(evidence.sample.reward, evidence.probability):.3f}"  # the same if others were left out


def _scores(verdict: Verdict, evidence: Evidence) -> Table:
    rows = [
        [name, f"{score.log_loss:.5f}", f"{score.normalized_entropy:.4f}"] for name, score in verdict.scores.items()
    ]
    note = (
        f"On the hold-out, with {evidence.contract.gate.confidence:.0%} intervals. Normalized entropy is log loss"
        " divided by the log loss of the hold-out's mean rate: 1 is no better than that rate, 0 is perfect."
    )
    return Table("Scores", ["predicted by", "log loss", "normalized entropy"], rows, note)


def _reliability(evidence: Evidence) -> Plot:
    bins = reliability_table(evidence.sample.reward, evidence.probability, weight=evidence.sample.weight)
    return Plot(
        "Reliability",
        reliability_plot(bins),
        f"Predicted against observed {evidence.contract.reward} rate in {len(bins)} bins of about equally many"
        " impressions; the dashed line is perfect calibration.",
    )


def _slice_plot(evidence: Evidence, column: str) -> Section | None:
    values = evidence.holdout[column]
    entropies = slice_entropies(evidence.sample, evidence.probability, values)
    worst = sorted(entropies, key=entropies.__getitem__, reverse=True)[:SLICES_SHOWN]
    if not worst:
        return None
    intervals = {value: slice_interval(evidence.sample, evidence.probability, values, value) for value in worst}
    caption = (
        f"The {len(worst)} worst of {len(entropies)} with enough rewards; 1 is no better than a slice's own mean rate."
    )
    return Plot(f"By {column}", interval_plot(intervals, guide=1, label="normalized entropy"), caption)


def _groups(column: str, groups: Sequence[GroupRow]) -> Table:
    """The model's figures on the largest values of a slice or group column."""
    rows = [
        [
            row.value,
            row.impressions,
            row.rewards,
            _figure(row.calibration_ratio),
            _figure(row.normalized_entropy),
            None if row.policy_disagreement is None else f"{row.policy_disagreement:.0%}",
        ]
        for row in groups
        if row.column == column
    ]
    names = [
        column,
        "impressions",
        "rewards",
        "predicted / observed",
        "normalized entropy",
        "policy disagrees with log",
    ]
    note = "The largest first; – where there are too few rewards, or the policy's decision is unknown."
    return Table(f"For each {column}", names, rows[:SLICES_SHOWN], note)


def _figure(interval: Interval | None) -> str | None:
    return None if interval is None else f"{interval:.2f}"
