"""`swap_conv1x1`: 1x1 convolutions become linears, which are faster as such and can be quantized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import pydantic

from qcompile.change import Change
from qcompile.errors import PlanError
from qcompile.selectors import Candidate, Layers, select
from qcompile.steps.step import ComponentStep, Phase, Target

if TYPE_CHECKING:
    from torch import nn


class SwapConv1x1(ComponentStep):
    """Compute 1x1 convolutions as linears; only where stride, padding and groups make no difference."""

    kind: ClassVar[str] = "swap_conv1x1"
    phase: ClassVar[Phase] = Phase.REWRITE

    layers: Layers = pydantic.Field(default_factory=Layers, description="which convolutions; left out: all that can")

    def changes(self, target: Target) -> tuple[Change, ...]:
        from qcompile.modules import convolutions, stored_bytes

        place = target.place(self.kind)
        found = []
        reasons = self._reasons(target.module, f"{place}.layers")
        for name, layer in convolutions(target.module).items():
            size = stored_bytes(layer)
            found.append(
                Change(
                    step=target.index,
                    kind=self.kind,
                    component=target.component,
                    module=name,
                    action=None if reasons[name] else "linear",
                    reason=reasons[name],
                    features=(layer.in_channels, layer.out_channels),
                    bytes_before=size,
                    bytes_after=size,
                )
            )
        if not any(change.action for change in found):
            raise PlanError(
                f"{place}: no convolution of {target.component} ({type(target.module).__name__}) can be swapped"
                + (f"; the first, {found[0].module}, is left alone because: {found[0].reason}." if found else ".")
                + " Take the step out."
            )
        return tuple(found)

    def restructure(self, module: nn.Module) -> None:
        from qcompile.layers import Conv1x1AsLinear
        from qcompile.modules import convolutions

        found = convolutions(module)
        for name, reason in self._reasons(module, f"{self.kind}.layers").items():
            if reason is None:
                owner, _, key = name.rpartition(".")
                module.get_submodule(owner)._modules[key] = Conv1x1AsLinear.from_convolution(found[name])

    def _reasons(self, module: nn.Module, place: str) -> Mapping[str, str | None]:
        """Why each convolution is left alone, None where it is swapped."""
        from qcompile.layers import why_not_linear
        from qcompile.modules import convolutions

        found = convolutions(module)
        candidates = {
            name: Candidate("conv2d", layer.in_channels, layer.out_channels, kernel_size=tuple(layer.kernel_size))
            for name, layer in found.items()
        }
        if not candidates:
            return {}
        chosen = select(self.layers, candidates, lambda: [name for name, _ in module.named_modules()], place)
        return {name: chosen[name] or why_not_linear(layer) for name, layer in found.items()}
