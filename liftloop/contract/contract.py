"""The contract: how a source's raw logs become canonical impressions, and what its owners require of a model.

Everything downstream of a contract reads canonical impressions and nothing else.
"""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from liftloop.contract.columns import Column, ContextColumn, Expression, OutcomeFiles
from liftloop.contract.expressions import names_in
from liftloop.contract.files import Landing, Lookup, placeholders, repeated_in
from liftloop.contract.schedules import Schedules
from liftloop.contract.sections import (
    Amounts,
    Duration,
    FeatureKeys,
    FullHours,
    GatePolicy,
    Objective,
    Outcome,
    Retraining,
    Reward,
    Share,
    Split,
    Training,
)
from liftloop.storage.frozen import Frozen

# The canonical impression: its columns in their order, with DuckDB types.
CANONICAL_TYPES = {
    "impression_id": "VARCHAR",
    "event_timestamp": "TIMESTAMPTZ",
    "placement_id": "VARCHAR",
    "ad_id": "VARCHAR",
    "campaign_id": "VARCHAR",
    "advertiser_id": "VARCHAR",
    "site_id": "VARCHAR",
    "user_id": "VARCHAR",
    "propensity": "DOUBLE",
    "eligible_ads": "VARCHAR",  # the ads that could have been shown: a JSON list of ids, sorted, each once
    "pricing": "VARCHAR",
    "bid": "DOUBLE",
    "click": "BIGINT",
    "conversion": "BIGINT",
    "revenue": "DOUBLE",
    "cost": "DOUBLE",
    "outcome_timestamp": "TIMESTAMPTZ",
    "policy": "VARCHAR",
}
OUTCOME_COLUMNS = {"click", "conversion", "revenue", "cost", "outcome_timestamp"}  # not known at decision time
REQUIRED_COLUMNS = ("impression_id", "event_timestamp", "placement_id", "ad_id")
Kpi = Literal["click_through_rate", "conversion_rate", "conversions_per_mille", "revenue_per_mille", "margin_per_mille"]
COLUMNS_OF_KPI: dict[Kpi, set[str]] = {  # what each is made of
    "click_through_rate": {"click"},
    "conversion_rate": {"click", "conversion"},
    "conversions_per_mille": {"conversion"},
    "revenue_per_mille": {"revenue"},
    "margin_per_mille": {"revenue", "cost"},
}
KPI_OF_OBJECTIVE: dict[Objective, Kpi] = {
    "clicks": "click_through_rate",
    "conversions": "conversions_per_mille",
    "revenue": "revenue_per_mille",
    "margin": "margin_per_mille",
}
RESERVED_NAMES = {"date", "filename", "fold", "json_line", "landed", "object_id", "rank", "raw", "reasons", "row"}
RESERVED_NAMES |= {"rowid", "rows"}
MEANINGS = {"DOUBLE": "a number", "BIGINT": "a whole number", "VARCHAR": "text", "TIMESTAMPTZ": "a time"}
CONTEXT_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "float": "DOUBLE"}


class Contract(Frozen):
    source: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str
    landing: Landing
    lookups: dict[str, Lookup] = Field(default_factory=dict)
    columns: dict[str, Column]
    context: dict[str, ContextColumn] = Field(default_factory=dict)
    keep: Expression | None = None  # of the landed rows, those for which it is true: "event = 'impression'"
    outcome_files: dict[str, OutcomeFiles] = Field(default_factory=dict)
    keys: FeatureKeys
    reward: Reward = "click"  # what the model predicts of an impression
    objective: Objective = "clicks"  # what decisions make the most of; without it, as many rewards as possible
    kpi: Kpi = "click_through_rate"  # what pages show first; without it, that of the objective
    outcome: Outcome
    maturity: Duration
    freshness: Duration = timedelta(minutes=15)  # objective: from landing to served features
    landing_delay: FullHours | None = None  # age of the newest known event when deciding; None: as measured
    amounts: Amounts = Amounts()
    deduplicate_by: tuple[str, ...] = ("impression_id",)
    quarantine_share_limit: Share = 0.05
    duplicate_share_limit: Share = 0.05  # of rows of one file whose key an earlier row of it has; more holds the file
    choose_among: str = "placement_id"  # ads logged with the same value of this column compete for an impression
    feature_version: Annotated[int, Field(ge=1)] = 1
    split: Split
    training: Training = Training()
    gate: GatePolicy = GatePolicy()
    retraining: Retraining = Retraining()
    schedules: Schedules = Schedules()
    approval: Literal["none", "required"] = "none"  # required: a person confirms each promotion in the Prefect UI
    approval_within: Duration = timedelta(days=1)  # after that, without an answer, the champion stays

    @model_validator(mode="before")
    @classmethod
    def _fill_objective(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        objective = values.get("objective", "conversions" if values.get("reward") == "conversion" else "clicks")
        kpi = KPI_OF_OBJECTIVE.get(objective, "click_through_rate")  # an unknown objective is refused later
        return {"objective": objective, "kpi": kpi} | values

    @model_validator(mode="after")
    def _columns_are_known(self) -> Self:
        unknown = sorted(set(self.columns) - set(CANONICAL_TYPES))
        if unknown:
            raise ValueError(f"columns {unknown} are not canonical; allowed: {sorted(CANONICAL_TYPES)}")
        known = {*self.columns, *self.outcome_columns}
        if missing := sorted({*REQUIRED_COLUMNS, *self.keys, self.reward} - known):
            raise ValueError(f"columns {missing} are required and not mapped")
        for key, kpi in {"objective": KPI_OF_OBJECTIVE[self.objective], "kpi": self.kpi}.items():
            if missing := sorted(COLUMNS_OF_KPI[kpi] - known):
                raise ValueError(f"{key}: {getattr(self, key)!r}: needs columns {missing}, which are not mapped")
        clash = sorted(name for name in self.context if name.lower() in CANONICAL_TYPES)
        if clash:
            raise ValueError(f"context {clash} have names of canonical columns; rename them")
        return self

    @model_validator(mode="after")
    def _objective_can_be_learned(self) -> Self:
        if self.objective == "clicks" and self.reward != "click":
            raise ValueError(
                f"objective: clicks: needs reward: click, not {self.reward}; or set objective: conversions"
            )
        if self.objective == "conversions" and self.reward == "click" and not self.outcome.conversion_requires_click:
            raise ValueError("objective: conversions: they come without clicks, too, so set reward: conversion")
        if len(given := {"pricing", "bid"} & self.columns.keys()) == 1:
            raise ValueError(f"columns.{given.pop()}: pricing and bid say together what an ad pays; map both")
        return self

    @model_validator(mode="after")
    def _context_names_are_usable(self) -> Self:
        odd = sorted(name for name in self.context if not re.fullmatch("[a-z_][a-z0-9_]*", name, re.IGNORECASE))
        if odd:
            example = re.sub(r"\W+", "_", odd[0]).strip("_") or "price"
            raise ValueError(
                f"context {odd} are not names of letters, digits and _; a landed column may be called anything:"
                f" {example}: {{from: {odd[0]!r}}}"
            )
        if taken := sorted(name for name in self.context if name.lower() in RESERVED_NAMES):
            raise ValueError(f"context {taken} are names that tables of ours use; rename them")
        if twice := repeated_in(map(str.lower, self.context)):
            raise ValueError(f"context {twice} differ in case alone; rename all but one")
        return self

    @model_validator(mode="after")
    def _options_have_a_meaning(self) -> Self:
        for name, column in self.mapped.items():
            kind = self.column_types[name]
            if "scale" in column.given and kind not in {"DOUBLE", "BIGINT"}:
                raise ValueError(f"{name}: scale means nothing for {MEANINGS[kind]}; remove it")
            given = {"time", "zone", "since"} & column.given
            if given and kind != "TIMESTAMPTZ":
                raise ValueError(f"{name}: {sorted(given)} mean nothing for {MEANINGS[kind]}; remove them")
            if "separator" in column.given and name != "eligible_ads":
                raise ValueError(f"{name}: separator means nothing for a single value; remove it")
        return self

    @model_validator(mode="after")
    def _lookups_can_be_found(self) -> Self:
        parts = {*placeholders(self.landing.path)}
        for name, lookup in self.lookups.items():
            if unknown := sorted({*placeholders(lookup.path)} - parts):
                raise ValueError(f"lookups.{name}.path names {unknown}; landing.path has {sorted(parts)}")
            if not name.isidentifier():
                raise ValueError(f"lookups.{name}: a reference file's name has letters, digits and _")
        return self

    @model_validator(mode="after")
    def _names_are_columns(self) -> Self:
        known = {*self.columns, *self.context} - OUTCOME_COLUMNS
        used = {"deduplicate_by": self.deduplicate_by, "choose_among": (self.choose_among,)}
        used |= {"slices": self.gate.slices, "groups": self.gate.groups}
        for key, names in used.items():
            if unknown := sorted(set(names) - known):
                raise ValueError(f"{key} names {unknown}; allowed: {sorted(known)}")
        return self

    @model_validator(mode="after")
    def _outcomes_have_one_origin(self) -> Self:
        paths = [self.landing.path]
        for name, files in self.outcome_files.items():
            if files.path in paths:
                raise ValueError(f"outcome_files.{name}.path: {files.path!r}: other files have this path")
            paths.append(files.path)
            if twice := sorted({*files.columns} & {*self.columns} - {"impression_id", "outcome_timestamp"}):
                raise ValueError(f"outcome_files.{name}: {twice} are also in columns; map them once")
        return self

    @model_validator(mode="after")
    def _rewards_are_final_when_mature(self) -> Self:
        delay, horizon = self.outcome.delay, self.outcome.horizon
        if horizon < delay:
            raise ValueError(f"outcome.horizon: {horizon} is shorter than outcome.delay, {delay}")
        if self.maturity < delay:
            raise ValueError(f"maturity: {self.maturity} is shorter than outcome.delay, {delay}: raise it")
        if self.maturity < horizon and "outcome_timestamp" in self.outcome_columns:
            raise ValueError(
                f"maturity: {self.maturity} is shorter than outcome.horizon, {horizon}: outcomes that come in between"
                " would count as none; raise it, or lower the horizon"
            )
        return self

    @property
    def has_prices(self) -> bool:
        """Whether the log says what each ad pays, for what."""
        return "bid" in self.columns and self.objective in ("revenue", "margin")

    @property
    def of_clicked(self) -> "Contract":
        """The contract of a model of P(conversion | click), learned from clicked impressions, which all logs keep."""
        outcome = self.outcome.model_copy(update={"negatives_kept": 1.0})
        return self.model_copy(update={"objective": "conversions", "reward": "conversion", "outcome": outcome})

    @property
    def mapped(self) -> dict[str, Column]:
        """The columns whose values come from landed files."""
        return {**self.columns, **self.context}

    def outcome_files_of(self, relative_key: str) -> str | None:
        """The name of the outcome files to which a key below the source's prefix belongs; None for impressions."""
        return next((name for name, files in self.outcome_files.items() if files.path_parts(relative_key)), None)

    def for_outcomes(self, name: str) -> "Contract":
        """The contract by which files of outcomes are read: of an impression they know its id alone."""
        files = self.outcome_files[name]
        options = files.event_id.model_dump(exclude_unset=True, by_alias=True) if files.event_id else None
        context = {"event_id": ContextColumn(type="string", **options)} if options else {}
        shape = {"landing": files, "columns": files.columns, "context": context, "keep": files.keep}
        return self.model_copy(update=shape | {"lookups": {}, "outcome_files": {}, "deduplicate_by": ()})

    @property
    def is_of_outcomes(self) -> bool:
        """Whether it is the one by which files of outcomes are read."""
        return "event_timestamp" not in self.columns

    @property
    def outcome_columns(self) -> set[str]:
        """The outcomes that impressions have, from their own files or from others."""
        named = {*self.columns}.union(*(files.columns for files in self.outcome_files.values()))
        return named & OUTCOME_COLUMNS

    @property
    def has_expressions(self) -> bool:
        return self.keep is not None or any(column.sql is not None for column in self.mapped.values())

    @property
    def landed_names(self) -> set[str]:
        """What the contract names of a landed row: its columns, parts of its path, columns of reference files."""
        named = {name for column in self.mapped.values() for name in column.origins}
        named |= {own for lookup in self.lookups.values() for own in lookup.match}
        return named | {*names_in(self.keep)} if self.keep else named

    @property
    def column_types(self) -> dict[str, str]:
        """Every column of a canonical impression of this source, with its DuckDB type, in order."""
        return CANONICAL_TYPES | {name: CONTEXT_TYPES[column.type] for name, column in self.context.items()}
