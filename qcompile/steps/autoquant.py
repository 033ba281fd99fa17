"""The options of `scheme: autoquant`, which a measurement on the device replaces by schemes of the table."""

from __future__ import annotations

from typing import Literal

import pydantic

from qcompile.errors import nearest
from qcompile.schemes import SCHEMES

AUTOQUANT = "autoquant"
"""What `scheme` says where it is to be measured."""
NONE = "none"
"""The layer as it is, which every scheme has to beat."""


class Autoquant(pydantic.BaseModel):
    """What autoquant may choose from, and what it may cost."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    candidates: tuple[str, ...] | None = pydantic.Field(
        None, min_length=1, description="schemes to measure; left out: all that this machine runs compiled and saves"
    )
    min_sqnr_db: float = pydantic.Field(
        25.0,
        allow_inf_nan=False,
        description="lowest signal-to-quantization-noise ratio of a layer's output on captured activations, in dB",
    )
    budget_s: float = pydantic.Field(
        600.0, gt=0, allow_inf_nan=False, description="seconds that measuring may take, model loading apart"
    )
    on_budget: Literal["none", "error"] = pydantic.Field(
        "error", description="layers not measured in that time: leave them as they are (none), or stop (error)"
    )

    @pydantic.field_validator("candidates")
    @classmethod
    def _schemes_exist(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = [name for name in SCHEMES if name != NONE]
        for index, name in enumerate(names or ()):
            if name == NONE:
                raise ValueError(f"{NONE!r} is measured in any case; take it out")
            if name not in known:
                raise ValueError(f"no scheme is called {name!r}; {nearest(name, known)}")
            if name in (names or ())[:index]:
                raise ValueError(f"{name!r} is there twice; keep one of them")
        return names
