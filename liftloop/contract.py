"""The contract: how one source of raw logs becomes canonical impressions, and what its owners ask of a model.

Everything downstream of a contract reads canonical impressions and nothing else.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from liftloop.errors import UserError

CONTRACTS_FOLDER = Path("contracts")

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
    "click": "BIGINT",
    "conversion": "BIGINT",
    "revenue": "DOUBLE",
    "cost": "DOUBLE",
    "outcome_timestamp": "TIMESTAMPTZ",
    "policy": "VARCHAR",
}
REQUIRED_COLUMNS = ("impression_id", "event_timestamp", "placement_id", "ad_id", "click")
CONTEXT_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "float": "DOUBLE"}

_DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PLACEHOLDER = re.compile(r"{(\w+)}")


class ContractError(UserError):
    """A contract cannot be used; the message names file, key, value and what is allowed."""


def _parse_duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)([smhd])", value)
    if match is None:
        raise ValueError("a duration is a whole number and one of s, m, h, d, such as 30m or 2d")
    return timedelta(**{_DURATION_UNITS[match[2]]: int(match[1])})


def _parse_zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("a zone is an IANA name such as UTC or Europe/Berlin")
    return value


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]
Zone = Annotated[str, BeforeValidator(_parse_zone)]
Share = Annotated[float, Field(ge=0, le=1)]
Reward = Literal["click", "conversion"]
FeatureKey = Literal["ad_id", "placement_id", "campaign_id", "advertiser_id", "site_id", "user_id"]
FileFormat = Literal["csv", "tsv", "jsonl", "parquet"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(_Frozen):
    """Where one canonical value comes from: exactly one of `from`, `template`, `pick` and `constant`."""

    from_: str | None = Field(default=None, alias="from")
    template: str | None = None  # landed columns joined as text: "{campaign}:{position}"
    pick: str | None = None  # the landed column whose name the row itself spells: "affinity_{item_id}"
    constant: str | float | None = None
    scale: float | None = None  # multiplies numbers: 0.01 turns cents into currency units
    time: Literal["text", "epoch_seconds", "epoch_milliseconds"] = "text"
    zone: Zone = "UTC"  # of times whose text bears no offset

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = [self.from_, self.template, self.pick, self.constant]
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError("give exactly one of from, template, pick, constant")
        return self


class ContextColumn(Column):
    """A column known at decision time. `about` says what changes it: the request, the ad, or both together."""

    type: Literal["string", "integer", "float"]
    about: Literal["request", "ad", "pair"] = "request"


class _PathPattern(_Frozen):
    path: str
    format: FileFormat

    def path_parts(self, relative_key: str) -> dict[str, str] | None:
        """The named parts of a key relative to the source's prefix, or None if it is no such file."""
        pieces = _PLACEHOLDER.split(self.path)
        named = (re.escape(piece) if i % 2 == 0 else f"(?P<{piece}>[^/]+)" for i, piece in enumerate(pieces))
        match = re.fullmatch("".join(named), relative_key)
        return match.groupdict() if match else None


class Landing(_PathPattern):
    """What arrives under `landing/<source>/`. The named parts of `path` become landed columns."""

    encoding: Literal["utf-8", "utf-16", "latin-1"] = "utf-8"


class Lookup(_PathPattern):
    """A reference file joined to every row; named parts in `path` are filled from the impressions file's own path."""

    match: dict[str, str]  # landed column -> column of the reference file


class Outcome(_Frozen):
    """When rewards become known, where the log itself does not say."""

    delay: Duration = timedelta(0)  # used where no outcome_timestamp is mapped
    horizon: Duration  # the longest time from an impression to its last outcome


class Split(_Frozen):
    """Temporal split: the newest matured impressions are held out, those before them tune and calibrate."""

    validation: Duration
    holdout: Duration


class Training(_Frozen):
    trials: Annotated[int, Field(ge=1)] = 4
    maximum_rounds: Annotated[int, Field(ge=1)] = 200
    seed: int = 7


class Retraining(_Frozen):
    """When new features start a training; the daily schedule and a degraded champion start one in any case."""

    new_impressions_share: Annotated[float, Field(gt=0)] = 0.05  # newly matured, of what the newest model knows


class GatePolicy(_Frozen):
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 1000
    minimum_rewards: Annotated[int, Field(ge=1)] = 100  # matured hold-out rewards, below which no verdict is honest
    calibration_ratio: tuple[float, float] = (0.8, 1.25)  # predicted over observed rewards
    worst_slice_entropy: float = 1.1  # normalized entropy that no large slice may exceed
    slices: tuple[str, ...] = ("placement_id",)
    minimum_effective_sample_size: Annotated[int, Field(ge=1)] = 2000  # a reward in hundreds of impressions is rare


class Contract(_Frozen):
    source: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str
    landing: Landing
    lookups: dict[str, Lookup] = {}
    columns: dict[str, Column]
    context: dict[str, ContextColumn] = {}
    keys: tuple[FeatureKey, ...]
    reward: Reward = "click"
    kpi: Literal["click_through_rate", "conversion_rate", "revenue_per_mille", "margin_per_mille"]
    outcome: Outcome
    maturity: Duration
    freshness: Duration = timedelta(minutes=15)  # objective: a landed object is in the served features by then
    deduplicate_by: tuple[str, ...] = ("impression_id",)
    quarantine_share_limit: Share = 0.05
    choose_among: str = "placement_id"  # ads seen with the same value of this column compete for an impression
    feature_version: Annotated[int, Field(ge=1)] = 1
    split: Split
    training: Training = Training()
    gate: GatePolicy = GatePolicy()
    retraining: Retraining = Retraining()
    approval: Literal["none", "required"] = "none"  # required: a person confirms each promotion in the Prefect UI
    approval_within: Duration = timedelta(days=1)  # without an answer by then the champion stays

    @model_validator(mode="after")
    def _columns_are_known(self) -> Self:
        unknown = sorted(set(self.columns) - set(CANONICAL_TYPES))
        if unknown:
            raise ValueError(f"columns {unknown} are not canonical; allowed: {sorted(CANONICAL_TYPES)}")
        missing = sorted({*REQUIRED_COLUMNS, *self.keys, self.reward} - set(self.columns))
        if missing:
            raise ValueError(f"columns {missing} are required and not mapped")
        clash = sorted(set(self.context) & set(CANONICAL_TYPES))
        if clash:
            raise ValueError(f"context {clash} bear names of canonical columns; rename them")
        return self

    @model_validator(mode="after")
    def _names_are_columns(self) -> Self:
        known = {*self.columns, *self.context}
        used = {"deduplicate_by": self.deduplicate_by, "choose_among": (self.choose_among,), "slices": self.gate.slices}
        for key, names in used.items():
            if unknown := sorted(set(names) - known):
                raise ValueError(f"{key} names {unknown}; allowed: {sorted(known)}")
        return self

    @property
    def column_types(self) -> dict[str, str]:
        """Every column of a canonical impression of this source, with its DuckDB type, in order."""
        return CANONICAL_TYPES | {name: CONTEXT_TYPES[column.type] for name, column in self.context.items()}

    @property
    def landing_prefix(self) -> str:
        return f"landing/{self.source}/"


def placeholders(template: str) -> list[str]:
    """The names in braces, in order: `{campaign}:{position}` -> ["campaign", "position"]."""
    return _PLACEHOLDER.findall(template)


def load_contract(source: str, folder: Path = CONTRACTS_FOLDER) -> Contract:
    """The contract of one source.

    Raises:
        ContractError: there is no such contract, or it cannot be used.
    """
    path = folder / f"{source}.yaml"
    if not path.is_file():
        raise ContractError(f"source {source!r} is not declared in {folder}/; declared: {declared_sources(folder)}")
    try:
        contract = Contract.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: not readable as YAML: {error}") from None
    except ValidationError as error:
        raise ContractError("\n".join(_explain(path, problem) for problem in error.errors())) from None
    if contract.source != source:
        raise ContractError(f"{path}: source: {contract.source!r}: must equal the file's name, {source!r}")
    return contract


def declared_sources(folder: Path = CONTRACTS_FOLDER) -> list[str]:
    """The sources that have a contract, by name."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _explain(path: Path, problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "contract"
    if problem["type"] == "extra_forbidden":
        return f"{path}: {key}: {problem['input']!r}: unknown key; allowed: {_allowed_beside(problem['loc'])}"
    shown = "" if isinstance(problem["input"], dict) else f" {problem['input']!r}:"
    return f"{path}: {key}:{shown} {problem['msg'].removeprefix('Value error, ')}"


def _allowed_beside(location: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = Contract
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = _model_within(field.annotation) or model
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _model_within(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
