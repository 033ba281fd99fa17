"""Small modules with what makes lifting hard: shared structure, buffers, constants, nested outputs."""

import torch
from torch import nn


class Block(nn.Module):
    """Takes and returns two streams, as a double block of FLUX does."""

    def __init__(self, features: int = 32, gain: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Linear(features, features)
        self.second = nn.Linear(features, features)
        self.gain = gain
        self.register_buffer("shift", torch.randn(features))

    def forward(
        self,
        hidden: torch.Tensor,
        context: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor] | None = None,
        options: dict[str, float] | None = None,
        scale: float = 1.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.first(hidden) * self.gain + self.shift
        if rotary is not None:
            hidden = hidden * rotary[0] + rotary[1]
        return torch.nn.functional.gelu(context) * scale, self.second(hidden) + torch.arange(hidden.shape[-1])


class Model(nn.Module):
    """Three blocks in a row behind an embedding."""

    def __init__(self, features: int = 32, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(8, features)
        self.blocks = nn.ModuleList(Block(features) for _ in range(depth))

    def forward(self, hidden: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor]:
        hidden = self.embed(hidden)
        for block in self.blocks:
            context, hidden = block(hidden, context=context, rotary=(hidden.sin(), hidden.cos()))
        return (hidden,)


def make_model(seed: int = 0, features: int = 32, depth: int = 3) -> Model:
    """A `Model` in eval mode with weights drawn from `seed`."""
    torch.manual_seed(seed)
    return Model(features, depth).eval().requires_grad_(False)


def make_call(rows: int = 24, seed: int = 1) -> dict[str, torch.Tensor]:
    """Arguments of a `Model`'s forward."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "hidden": torch.randn(1, rows, 8, generator=generator),
        "context": torch.randn(1, 5, 8, generator=generator),
    }
