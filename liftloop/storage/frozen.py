"""Base classes of models that are written as JSON."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Measured(Frozen):
    """A model whose figures may be infinite or NaN, in JSON, too."""

    model_config = ConfigDict(ser_json_inf_nan="constants")
