"""`inductor`: compiler options for a component's `compile` step, for that compilation only."""

from __future__ import annotations

from typing import ClassVar

import pydantic

from qcompile.change import Change
from qcompile.errors import PlanError
from qcompile.steps.step import ComponentStep, Phase, Target


class Inductor(ComponentStep):
    """Set options of torch's compiler for the compile steps of a component that follow; nothing else sees them."""

    kind: ClassVar[str] = "inductor"
    phase: ClassVar[Phase] = Phase.COMPILE

    options: dict[str, bool | int | float | str] = pydantic.Field(
        min_length=1,
        description="options of torch._inductor.config by name, such as conv_1x1_as_mm or coordinate_descent_tuning",
    )

    def changes(self, target: Target) -> tuple[Change, ...]:
        from qcompile.aot.options import check_options

        place = target.place(self.kind)
        if not target.compiled:
            raise PlanError(
                f"{place}: no compile step of {target.component} follows, so these options would change nothing. Put "
                "the step before it, or take it out."
            )
        check_options(self.options, f"{place}.options")
        shown = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return (Change(step=target.index, kind=self.kind, component=target.component, module="", action=shown),)
