"""What one step asks of the machine: its matrix products, convolutions and attention calls by exact shape."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from qcompile.modules import linears

Sizes = tuple[int, ...]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Convolution:
    """One convolution's shape."""

    input: Sizes
    """[batch, channels, …]"""
    weight: Sizes
    """[out channels, in channels / groups, …]"""
    stride: Sizes
    padding: Sizes | str
    dilation: Sizes
    groups: int

    @property
    def product(self) -> tuple[int, int, int] | None:
        """(rows, in, out) of the matrix product that it comes down to; None where it is more than one."""
        plain = all(size == 1 for size in (*self.weight[2:], *self.stride)) and self.groups == 1
        if not plain or (self.padding not in ("valid", "same") and any(self.padding)):
            return None
        pixels = torch.Size(self.input[2:]).numel()
        return self.input[0] * pixels, self.weight[1], self.weight[0]


@dataclass(frozen=True)
class Attention:
    """One attention call's shape."""

    query: Sizes
    """[batch, heads, tokens, width]"""
    key: Sizes
    value: Sizes
    mask: Sizes | None = None
    """Of the mask, with 1 where it is broadcast; None without one."""
    mask_is_bool: bool = False
    causal: bool = False


@dataclass(frozen=True)
class Work:
    """What one step does, with how often."""

    products: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    """(rows, in, out) of every linear."""
    convolutions: Counter[Convolution] = field(default_factory=Counter)
    attentions: Counter[Attention] = field(default_factory=Counter)


def work_of(model: nn.Module, call: Mapping[str, Any]) -> Work:
    """Run one step and count its linears, convolutions and attention calls by shape."""
    work = Work()
    counted: dict[nn.Module, Callable[..., None]] = {}
    for layer in linears(model).values():
        counted[layer] = _count_product(layer, work)
    for part in model.modules():
        if isinstance(part, CONVOLUTIONS):
            counted[part] = _count_convolution(part, work)
    hooks = [layer.register_forward_pre_hook(count, with_kwargs=True) for layer, count in counted.items()]
    try:
        with torch.no_grad(), _AttentionCounter(work.attentions):
            model(**call)
    finally:
        for hook in hooks:
            hook.remove()
    return work


def _count_product(layer: nn.Linear, work: Work) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = args[0] if args else kwargs["input"]
        rows = given.numel() // max(layer.in_features, 1)
        work.products[rows, layer.in_features, layer.out_features] += 1

    return hook


def _count_convolution(layer: Any, work: Work) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = args[0] if args else kwargs["input"]
        # One that pads with other values than zeros does so first; it is taken for one that pads with zeros.
        shape = Convolution(
            tuple(given.shape), tuple(layer.weight.shape), layer.stride, layer.padding, layer.dilation, layer.groups
        )
        work.convolutions[shape] += 1

    return hook


class _AttentionCounter(TorchFunctionMode):
    def __init__(self, counter: Counter[Attention]) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
            named = dict(zip(names, args, strict=False)) | given
            mask = named.get("attn_mask")
            shape = Attention(
                tuple(named["query"].shape),
                tuple(named["key"].shape),
                tuple(named["value"].shape),
                mask=None if mask is None else _unbroadcast(mask),
                mask_is_bool=mask is not None and mask.dtype == torch.bool,
                causal=bool(named.get("is_causal")),
            )
            self._counter[shape] += 1
        return func(*args, **given)


def _unbroadcast(mask: torch.Tensor) -> Sizes:
    return tuple(1 if stride == 0 else size for size, stride in zip(mask.shape, mask.stride(), strict=True))
