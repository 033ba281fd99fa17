"""`inductor`: compiler options for a component's `compile` step, for that compilation only."""

from __future__ import annotations

from typing import ClassVar

import pydantic

from qcompile.change import Change
from qcompile.errors import PlanError
from qcompile.steps.step import ComponentStep, Phase, Target

WORDS = {
    "max_autotune_gemm_backends": ("ATEN", "TRITON", "CUTLASS", "CK", "CPP"),
    "max_autotune_conv_backends": ("ATEN", "TRITON"),
    "max_autotune_gemm_search_space": ("DEFAULT", "EXHAUSTIVE"),
    "max_autotune_flex_search_space": ("DEFAULT", "EXHAUSTIVE"),
}
"""Options whose value is words with commas between them, and the words.

All others are switches and numbers. torch passes some of its words on to the C++ compiler's command line, to a shell or
to a path (`cpp.march`, `cpp.cxx`, `cuda.cutlass_dir`), so that with any word allowed a recipe could run programs; and
the recipe may be that of a stranger's artifact, whose JIT steps are compiled when it is loaded.
"""
GROUPS = ("cpp", "triton")
"""Of options with a dot, `cpp.simdlen`: the others write files, or are about how packages are put together."""


class Inductor(ComponentStep):
    """Set options of torch's compiler for the compile steps of a component that follow; nothing else sees them."""

    kind: ClassVar[str] = "inductor"
    phase: ClassVar[Phase] = Phase.COMPILE

    options: dict[str, bool | int | float | str] = pydantic.Field(
        min_length=1,
        description="options of torch._inductor.config by name, such as conv_1x1_as_mm or coordinate_descent_tuning: "
        f"switches and numbers, and words for {', '.join(WORDS)}",
    )

    @pydantic.field_validator("options")
    @classmethod
    def _names_no_code(cls, options: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
        for name, value in options.items():
            group, dot, _ = name.rpartition(".")
            if dot and group not in GROUPS:
                raise ValueError(f"{name} is no option of a recipe; of those with a dot, {_or(GROUPS)} can be set")
            if "remote_cache" in name:
                raise ValueError(f"{name} would ask other machines for code; take it out")
            if not isinstance(value, str):
                continue
            if name not in WORDS:
                raise ValueError(
                    f"{name} is {value!r}; words can be set for {', '.join(WORDS)}. Others take true, false or a number"
                )
            for word in value.split(","):
                if word.strip() not in WORDS[name]:
                    raise ValueError(f"{name} is {value!r}; its words are {_or(WORDS[name])}, with commas between")
        return options

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


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
