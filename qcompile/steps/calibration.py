"""What calibrated schemes go by: the largest input that each linear sees in the captured calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from qcompile.errors import StepError
from qcompile.schemes import Seen

if TYPE_CHECKING:
    import torch
    from torch import nn

    from qcompile.aot.callspec import Arguments


def inputs_of(module: nn.Module, names: Collection[str], calls: Mapping[str, Arguments]) -> dict[str, Seen]:
    """Run `module` on every captured call and record what the linears `names` are given.

    Captured calls are those of the first step for each declared shape. Larger inputs of later steps are cut off at the
    peak found here.

    Raises:
        StepError: a linear was never called, was called with tensors of different dimensions, or saw infinite values.
    """
    import torch

    peaks: dict[str, torch.Tensor] = {}
    dims: dict[str, set[int]] = {name: set() for name in names}

    def recorder(name: str) -> Callable[..., None]:
        def record(_: nn.Module, args: tuple[torch.Tensor, ...], kwargs: Mapping[str, torch.Tensor]) -> None:
            given = args[0] if args else kwargs["input"]
            peak = given.detach().abs().amax().float()
            # On the device: reading every value as it comes would wait for the GPU each time.
            peaks[name] = torch.maximum(peaks[name], peak) if name in peaks else peak
            dims[name].add(given.dim())

        return record

    hooks = [module.get_submodule(name).register_forward_pre_hook(recorder(name), with_kwargs=True) for name in names]
    try:
        with torch.no_grad():
            for arguments in calls.values():
                module(**arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _seen(name, peaks, dims[name]) for name in names}


def _seen(name: str, peaks: Mapping[str, torch.Tensor], dims: set[int]) -> Seen:
    if name not in peaks:
        raise StepError(
            f"{name} can't be calibrated: no captured call reaches it. Exclude it, or choose a dynamic scheme."
        )
    if len(dims) > 1:
        counts = " and ".join(map(str, sorted(dims)))
        raise StepError(
            f"{name} can't be calibrated: its inputs have {counts} dimensions. Exclude it, or choose a dynamic scheme."
        )
    peak = float(peaks[name])
    if not math.isfinite(peak):
        raise StepError(
            f"{name} can't be calibrated: its inputs are not finite. The model gives no sensible output for the "
            "recipe's call; check it, or choose another model.dtype."
        )
    return Seen(peak or 1.0, next(iter(dims)))  # inputs of zeros only: any scale is right
