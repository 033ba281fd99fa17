"""`channels_last`: convolution weights in the memory layout that convolution kernels are fastest in."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qcompile.change import Change
from qcompile.errors import PlanError
from qcompile.steps.step import ComponentStep, Phase, Target

if TYPE_CHECKING:
    from torch import nn


class ChannelsLast(ComponentStep):
    """Lay out the weights of two-dimensional convolutions as channels_last; values stay the same."""

    kind: ClassVar[str] = "channels_last"
    phase: ClassVar[Phase] = Phase.REWRITE

    def changes(self, target: Target) -> tuple[Change, ...]:
        from qcompile.modules import convolutions, tensor_bytes

        found = tuple(
            Change(
                step=target.index,
                kind=self.kind,
                component=target.component,
                module=name,
                action="channels_last",
                features=(layer.in_channels, layer.out_channels),
                bytes_before=(size := tensor_bytes(layer.weight)),
                bytes_after=size,
            )
            for name, layer in convolutions(target.module).items()
        )
        if not found:
            raise PlanError(
                f"{target.place(self.kind)}: {target.component} ({type(target.module).__name__}) has no "
                "two-dimensional convolution, so the layout would change nothing. Take the step out."
            )
        return found

    def restructure(self, module: nn.Module) -> None:
        import torch

        from qcompile.modules import convolutions

        for layer in convolutions(module).values():
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
