"""The bases of what is written as JSON."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Measured(Frozen):
    """With figures that may be infinite or undefined, in JSON too."""

    model_config = ConfigDict(ser_json_inf_nan="constants")
