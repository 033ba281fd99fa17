"""A denoiser class, shrunken: the numbers of its configuration and what its forward is called with, as plain data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn


@dataclass(frozen=True)
class Noise:
    """A tensor of normal values in the model's dtype, or in the one named."""

    shape: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True)
class Filled:
    """A tensor of one value: bool and int64 for such values, else the model's dtype, or the one named."""

    shape: tuple[int, ...]
    value: float
    dtype: str | None = None


@dataclass(frozen=True)
class Values:
    """A tensor of these values, with the dtype that torch gives them, or the one named."""

    values: Any
    dtype: str | None = None


@dataclass(frozen=True)
class Positions:
    """Coordinates of a grid of tokens, [tokens, axes], the last axis fastest."""

    sizes: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Case:
    """Constructor arguments and keyword arguments of forward."""

    config: dict[str, Any]
    inputs: dict[str, Any]
    scheme: str = "int8_dynamic"
    dtype: str = "bfloat16"
    not_compiled: str | None = None
    """Why its blocks can't be compiled ahead of time; None where they can."""


def noise(*shape: int, dtype: str | None = None) -> Noise:
    return Noise(shape, dtype)


def filled(value: float, *shape: int, dtype: str | None = None) -> Filled:
    return Filled(shape, value, dtype)


def build(name: str, case: Case, folder: Path) -> nn.Module:
    """The model as a user has it: loaded from a folder, with weights that leave no layer without effect."""
    torch.manual_seed(0)
    kind = getattr(diffusers, name)
    model = kind(**case.config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # Many classes start their last layer and their gates with zeros, so that nothing would be compared.
                parameter.normal_(std=max(parameter[:1].numel(), 1) ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return kind.from_pretrained(folder, dtype=getattr(torch, case.dtype)).eval().requires_grad_(False)


def arguments(case: Case) -> dict[str, Any]:
    """Keyword arguments of forward, the same at every call."""
    return _made(case.inputs, getattr(torch, case.dtype), torch.Generator().manual_seed(0))


def _made(value: Any, dtype: torch.dtype, generator: torch.Generator) -> Any:
    named = getattr(torch, getattr(value, "dtype", None) or "bfloat16")
    if isinstance(value, Noise):
        return torch.randn(value.shape, generator=generator).to(named if value.dtype else dtype)
    if isinstance(value, Filled):
        made = torch.full(value.shape, value.value)
        return made.to(named) if value.dtype else made.to(dtype) if made.is_floating_point() else made
    if isinstance(value, Values):
        made = torch.tensor(value.values)
        return made.to(named) if value.dtype else made
    if isinstance(value, Positions):
        axes = torch.meshgrid(*[torch.arange(size) for size in value.sizes], indexing="ij")
        return torch.stack(axes, dim=-1).reshape(-1, len(value.sizes)).to(named)
    if isinstance(value, dict):
        return {key: _made(inner, dtype, generator) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_made(inner, dtype, generator) for inner in value)
    return value
