"""Modules with what torch.compile stumbles over. Tests find a line by the comment at its end, so it may move."""

import torch
from torch import nn


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x)
        if x.sum() > 0:  # a branch
            x = x * 2
        scale = x.mean().item()  # a value
        return self.linear(x) * scale


class Looping(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index in range(2):
            x = x + index
            print(end="")  # inside of a loop
        return x


class Outside(nn.Module):
    @torch.compiler.disable
    def kept_out(self, x: torch.Tensor) -> torch.Tensor:
        return x.cos()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.kept_out(x) + 1


class Whole(nn.Module):
    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.gain = gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.gain


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Whole(1.0), Whole(2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Refusing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 / (x.ndim - 2))


def make(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval().requires_grad_(False)
