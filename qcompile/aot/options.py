"""Compiler options: those every compilation gets, those of torch's modes, and those a recipe sets."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from qcompile.errors import PlanError, nearest

BASE: Mapping[str, Any] = {"emulate_precision_casts": True}
"""Options other than inductor's defaults that every compilation gets; recorded with every package.

Fused kernels keep intermediate values in float32 where eager rounds them to bfloat16. That alone changes pictures
(pytorch#179520); in FLUX, guidance 3.0 becomes 3008 instead of 3000 when it is embedded, and the model was trained
with the rounding. Emulating the casts costs about 1 % of a step and makes most blocks bit-equal to eager.
"""

SILENT: Mapping[str, Any] = {"autotune_num_choices_displayed": 0, "max_autotune_report_choices_stats": False}
"""Goes with every compilation and is recorded with none: torch prints a table of each search for a kernel otherwise."""

OURS = ("aot_inductor", "cpp_wrapper", "freezing", "always_keep_tensor_constants")
"""Beginnings of options that decide how packages are put together; a recipe can't set them."""


def options_of(tuning: str, inductor: Mapping[str, Any]) -> dict[str, Any]:
    """All options of one compilation; what a recipe sets wins over a mode's.

    Args:
        tuning: one of torch.compile's modes, `default` sets none.
        inductor: what the recipe's `inductor` steps set.
    """
    from torch._inductor import list_mode_options

    return {**BASE, **list_mode_options(tuning), **inductor}


def for_compiler(options: Mapping[str, Any]) -> dict[str, Any]:
    """What torch's compilers are to be called with: `options`, SILENT, and the pass that keeps shared values.

    The pass is an object, which no manifest can hold, and goes with every compilation.

    From then on this process assembles kernels with the ptxas of torch's compile workers. Of a torch that brings one,
    only the workers use it; triton's own is of another version, so that this process found none of their kernels in
    triton's cache and compiled each candidate of a search again, one after the other. A search took 5 times as long
    (torch 2.11 on an H200).
    """
    from torch._inductor.runtime.compile_tasks import _set_triton_ptxas_path

    from qcompile.aot.once import KEEP_SHARED

    _set_triton_ptxas_path()
    return {**SILENT, "post_grad_custom_post_pass": KEEP_SHARED, **options}


@contextmanager
def no_silent_eager() -> Iterator[None]:
    """Many models of one class may be compiled in turn; past torch's limit it would run them eagerly without a word."""
    import torch

    with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
        yield


def check_options(options: Mapping[str, Any], place: str) -> None:
    """Refuse options that the installed torch does not know, or values of another type than its own.

    Raises:
        PlanError: naming the option and what is allowed.
    """
    if not options:
        return  # without an import of the compiler
    import torch
    from torch._inductor import config

    known = config.get_config_copy()
    for name, value in options.items():
        if name not in known:
            close = [candidate for candidate in known if not candidate.startswith("_")]
            hint = nearest(name, close).partition(" Allowed here:")[0].partition("allowed here:")[0]
            raise PlanError(
                f"{place}.{name}: torch {torch.__version__} has no such compiler option; {hint or 'see '}"
                f"torch._inductor.config lists them."
            )
        if name.startswith(OURS):
            raise PlanError(f"{place}.{name}: qcompile sets this option itself. Take it out.")
        expected = known[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = (
            # Several switches and numbers default to None.
            expected is None or type(value) is type(expected) or (number and isinstance(expected, float))
        )
        if not fits:
            raise PlanError(
                f"{place}.{name}: {value!r} is a {type(value).__name__}; torch has {expected!r}, a "
                f"{type(expected).__name__}, there."
            )
