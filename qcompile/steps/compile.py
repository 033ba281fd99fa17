"""`compile`: native code for a component, ahead of time into the artifact, or recorded and redone at load."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import pydantic

from qcompile.change import Change
from qcompile.errors import PlanError
from qcompile.steps.quantize import refuse_uncompilable
from qcompile.steps.step import Phase, Step, Target, Workshop

if TYPE_CHECKING:
    from torch import nn


class Compile(Step):
    """Compile a component for the declared shapes."""

    kind: ClassVar[str] = "compile"
    phase: ClassVar[Phase] = Phase.COMPILE

    mode: Literal["aot", "jit"] = pydantic.Field(
        description="aot: compiled now, saved in the artifact. jit: torch.compile, redone at the first call after "
        "every load"
    )
    scope: Literal["blocks", "full"] = pydantic.Field(
        "blocks", description="blocks: every repeated block class once. full: the whole component as one graph"
    )

    def changes(self, target: Target) -> tuple[Change, ...]:
        from qcompile.aot.build import targets_of

        place = target.place(self.kind)
        if not target.is_denoiser:
            raise PlanError(
                f"{place}.component: {target.component!r} is not called at every step; only the denoiser can be "
                f"compiled so far."
            )
        if any(change.kind == self.kind for change in target.earlier):
            raise PlanError(
                f"{place}: {target.component} is compiled by an earlier step already. Keep one compile step."
            )
        refuse_uncompilable(target.earlier, self.mode, place)
        modules = targets_of(target.module, self.scope)
        if not modules:
            raise PlanError(
                f"{place}: {type(target.module).__name__} has no repeated blocks to compile one by one; use scope: "
                f"full."
            )
        return tuple(
            Change(
                step=target.index,
                kind=self.kind,
                component=target.component,
                module=name,
                action=f"{self.mode} {type(module).__name__}",
            )
            for name, module in modules.items()
        )

    def apply(self, module: nn.Module, changes: tuple[Change, ...], workshop: Workshop) -> None:
        from qcompile.aot.build import build_packages

        if self.mode == "jit":
            self.prepare(module)
            return
        workshop.packages += build_packages(
            self.component,
            module,
            self.scope,
            workshop.calls,
            workshop.root,
            workshop.progress,
            workshop.max_compiled_error,
        )

    def prepare(self, module: nn.Module) -> None:
        from qcompile.aot.build import INDUCTOR, targets_of

        if self.mode == "jit":
            for target in targets_of(module, self.scope).values():
                target.compile(options=dict(INDUCTOR))
