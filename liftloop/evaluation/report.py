"""An evaluation as a page, and its figures as table rows."""

from collections.abc import Mapping, Sequence

from liftloop.contract.contract import Contract
from liftloop.evaluation.chart_report import chart_sections
from liftloop.evaluation.earned import UNITS, in_unit
from liftloop.evaluation.kpi import Kpis
from liftloop.evaluation.late import late_words
from liftloop.evaluation.records import ChampionScore, Evaluation, Late
from liftloop.reporting.html import Figures, Plot, Section, Table, Text, render_report
from liftloop.reporting.plots import reliability_plot
from liftloop.stats.interval import Interval

_KPIS = {
    "click_through_rate": ".3%",
    "conversion_rate": ".2%",
    "conversions_per_mille": ".3f",
    "revenue_per_mille": ".3f",
    "margin_per_mille": ".3f",
}


def evaluation_page(contract: Contract, evaluation: Evaluation, earlier: Sequence[Evaluation] = ()) -> str:
    """HTML page: findings, KPIs by policy, what was late, and the champion's charts, predictions and decisions.

    Args:
        earlier: the evaluations before it, oldest first, whose days the charts show, too.
    """
    sections: list[Section] = [
        Figures(
            {
                "impressions": evaluation.impressions,
                f"{contract.reward}s": evaluation.rewards,
                **_main_kpi(contract, evaluation),
            }
        ),
        Text("Findings", evaluation.findings),
        _kpi_table(contract, "KPIs", evaluation.kpis),
        *(_late_table(contract, late) for late in evaluation.late),
    ]
    if evaluation.champion:
        sections += chart_sections(evaluation, earlier)
        sections += _champion_sections(contract, evaluation.champion)
    subtitle = f"impressions from {evaluation.since:%Y-%m-%d %H:%M} to {evaluation.until:%Y-%m-%d %H:%M} UTC"
    return render_report(f"Evaluation of {evaluation.source}", sections, subtitle=subtitle, verdict=evaluation.health)


def kpi_rows(kpis: Mapping[str, Kpis]) -> list[dict[str, object]]:
    """One row per policy; KPIs as text."""
    return [
        {"policy": policy, "impressions": each.impressions}
        | {name.replace("_", " "): _text(getattr(each, name), spec) for name, spec in _KPIS.items()}
        for policy, each in kpis.items()
    ]


def _kpi_table(contract: Contract, heading: str, kpis: Mapping[str, Kpis], note: str = "") -> Table:
    rows = kpi_rows(kpis)
    note += f"{contract.gate.confidence:.0%} intervals. Conversions are per click; per mille is per 1,000 impressions."
    return Table(heading, list(rows[0]), [list(row.values()) for row in rows], note)


def _late_table(contract: Contract, late: Late) -> Table:
    heading = "KPIs of late impressions" if late.kind == "new" else "KPIs of impressions that changed"
    return _kpi_table(contract, heading, late.kpis, f"{late_words(contract.reward, late)} ")


def _main_kpi(contract: Contract, evaluation: Evaluation) -> dict[str, str]:
    overall = next(iter(evaluation.kpis.values()))
    return {contract.kpi.replace("_", " "): _text(getattr(overall, contract.kpi), _KPIS[contract.kpi])}


def _champion_sections(contract: Contract, champion: ChampionScore) -> list[Section]:
    low, high = contract.gate.calibration_ratio
    rows = [
        ["log loss", f"{champion.score.log_loss:.5f}", "nats per impression"],
        ["normalized entropy", f"{champion.score.normalized_entropy:.4f}", "1 is no better than the mean rate"],
        [
            "calibration ratio",
            f"{champion.calibration_ratio:.3f}",
            f"predicted / observed rewards; bounds {low:g} to {high:g}",
        ],
    ]
    if value := champion.decisions:
        rows += [
            [
                f"logged {contract.objective}",
                in_unit(contract.objective, value.logged),
                f"{UNITS[contract.objective]}; {value.impressions:,} impressions with propensities",
            ],
            [
                "decisions, SNIPS",
                in_unit(contract.objective, value.self_normalized),
                f"effective sample size {value.effective_sample_size:,.0f}",
            ],
            [
                "decisions, doubly robust",
                in_unit(contract.objective, value.doubly_robust),
                "the model's estimate, corrected by the log",
            ],
        ]
    caption = f"Predicted against observed {contract.reward} rate; the dashed line is perfect calibration."
    return [
        Table(
            f"The champion {champion.version}",
            ["measure", "value", ""],
            rows,
            f"On {champion.impressions:,} impressions.",
        ),
        Plot("Reliability", reliability_plot(champion.reliability), caption),
    ]


def _text(interval: Interval | None, spec: str) -> str:
    return "–" if interval is None else f"{interval:{spec}}"
