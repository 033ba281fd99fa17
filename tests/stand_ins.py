"""What stands in for a GPU in tests of what a GPU is for."""

from typing import Any

import torch
from torch import nn

from qcompile.modules import repeated_blocks


class Elsewhere:
    """Stands for `Streaming` where there is no GPU: weights of blocks are not numbers unless their block runs."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = model
        self.closed = False
        self.real: dict[int, torch.Tensor] = {}
        first = next(model.parameters())
        self.hooks: dict[nn.Module, tuple[Any, ...]] = {}
        for block in repeated_blocks(model).values():
            if all(parameter is not first for parameter in block.parameters()):
                self.hooks[block] = (
                    block.register_forward_pre_hook(self.bring, prepend=True),
                    block.register_forward_hook(self.hide, always_call=True),
                )
                self.hide(block)

    def hide(self, block: nn.Module, *_: Any) -> None:
        for parameter in block.parameters():
            if type(parameter.data) is torch.Tensor and id(parameter) not in self.real:
                self.real[id(parameter)] = parameter.data
                parameter.data = torch.full_like(parameter.data, float("nan"))

    def bring(self, block: nn.Module, *_: Any) -> None:
        for parameter in block.parameters():
            parameter.data = self.real.pop(id(parameter), parameter.data)

    def settle(self, module: nn.Module) -> None:
        for part in module.modules():
            for hook in self.hooks.pop(part, ()):
                hook.remove()
        self.bring(module)

    def close(self) -> None:
        self.settle(self.model)
        self.closed = True
