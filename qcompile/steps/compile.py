"""`compile`: native code for a component, ahead of time into the artifact, or recorded and redone at load."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pydantic

from qcompile.change import Change
from qcompile.errors import PlanError
from qcompile.steps.quantize import refuse_uncompilable
from qcompile.steps.step import NOTHING, ComponentStep, Phase, Target, Workshop

if TYPE_CHECKING:
    from torch import nn

PARTS = {"decode": "decoder", "encode": "encoder"}
"""Methods of an autoencoder that can be compiled, and the module that does their work."""


class Compile(ComponentStep):
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
    method: Literal["decode", "encode"] | None = pydantic.Field(
        None, description="of an autoencoder: compile its decoder or encoder, with scope: full"
    )
    tuning: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = pydantic.Field(
        "default", description="torch.compile's mode: how long the compiler searches, and whether CUDA graphs are used"
    )
    dynamic: bool = pydantic.Field(False, description="jit: one code for sizes that vary, instead of one for each size")

    def changes(self, target: Target) -> tuple[Change, ...]:
        place = target.place(self.kind)
        self._refuse_combinations(place)
        if self.method is None and self.mode == "aot" and not target.is_denoiser:
            raise PlanError(
                f"{place}.component: {target.component!r} is not called at every step; ahead of time the denoiser can "
                "be compiled, or an autoencoder's decode or encode (method: decode). Use mode: jit for others."
            )
        modules = self.targets(target.module, place)
        compiled = {change.module for change in target.earlier if change.kind == self.kind}
        if compiled & modules.keys() or (compiled and self.method is None):
            raise PlanError(
                f"{place}: {target.component} is compiled by an earlier step already. Keep one compile step."
            )
        refuse_uncompilable(target.earlier, self.mode, place)
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

    def targets(self, module: nn.Module, place: str = "compile") -> dict[str, nn.Module]:
        """The modules that are compiled, by dotted name.

        Raises:
            PlanError: the component has no such method.
        """
        from qcompile.aot.build import targets_of

        if self.method is None:
            return targets_of(module, self.scope)
        part = getattr(module, PARTS[self.method], None)
        if part is None:
            raise PlanError(
                f"{place}.method: {type(module).__name__} has no {PARTS[self.method]}, so there is no {self.method} to "
                "compile. Take method out, or name an autoencoder as the component."
            )
        return {PARTS[self.method]: part}

    def apply(self, module: nn.Module, changes: tuple[Change, ...], workshop: Workshop) -> None:
        from qcompile.aot.build import build_packages
        from qcompile.aot.options import options_of

        if self.mode == "jit":
            self.prepare(module, workshop.inductor)
            return
        targets = self.targets(module)
        if self.method is None:
            runs = {label: _call(module, arguments) for label, arguments in workshop.calls.items()}
        else:
            (part,) = targets
            assert workshop.part_calls is not None
            calls = workshop.part_calls(self.component, part)
            runs = {label: _call(targets[part], arguments) for label, arguments in calls.items()}
        with nullcontext() if self.method is None else workshop.alone():
            workshop.packages += build_packages(
                self.component,
                targets,
                runs,
                workshop.root,
                workshop.progress,
                workshop.max_compiled_error,
                options_of(self.tuning, workshop.inductor),
                workshop.settle,
            )

    def prepare(self, module: nn.Module, inductor: Mapping[str, Any] = NOTHING) -> None:
        if self.mode != "jit":
            return
        from qcompile.aot.options import check_options, for_compiler, options_of

        check_options(inductor, f"{self.kind} of {self.component}: inductor.options")
        for part in self.targets(module).values():
            part.compile(options=for_compiler(options_of(self.tuning, inductor)), dynamic=self.dynamic)

    def _refuse_combinations(self, place: str) -> None:
        graphs = self.tuning in ("reduce-overhead", "max-autotune")
        if graphs and self.mode == "aot":
            raise PlanError(
                f"{place}.tuning: {self.tuning} uses CUDA graphs, which packages compiled ahead of time can't hold. "
                "Use max-autotune-no-cudagraphs or default."
            )
        if graphs and self.scope == "blocks":
            raise PlanError(
                f"{place}.tuning: {self.tuning} uses CUDA graphs, and a chain of blocks overwrites the outputs of each "
                "other's graphs (pytorch#152887). Use max-autotune-no-cudagraphs, or scope: full."
            )
        if self.dynamic and self.mode == "aot":
            raise PlanError(
                f"{place}.dynamic: packages are built for the declared shapes. Declare every size under shapes (each "
                "costs a few megabytes), or use mode: jit."
            )
        if self.method and self.scope != "full":
            raise PlanError(f"{place}.scope: an autoencoder's {self.method} is compiled as a whole; use scope: full.")


def _call(module: nn.Module, arguments: Mapping[str, Any]) -> Any:
    from qcompile.aot.callspec import invoke

    return lambda: invoke(module, arguments)
