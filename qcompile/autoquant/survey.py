"""One pass through the real model: what each selected layer is called with, and how wrong each scheme makes it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from qcompile.aot.callspec import Arguments, dtype_name
from qcompile.autoquant.candidates import FAILURES, first_line, in_scheme
from qcompile.schemes import SCHEMES


@dataclass(frozen=True)
class LinearShape:
    """What the latency of a linear depends on."""

    rows: int
    """Rows of the input: the product of its leading dimensions."""
    in_features: int
    out_features: int
    dtype: str
    """Of input and weight, torch's name without `torch.`."""
    bias: bool

    def __str__(self) -> str:
        bias = "" if self.bias else " without bias"
        return f"{self.rows}x{self.in_features} -> {self.out_features} {self.dtype}{bias}"


@dataclass
class Survey:
    """What one pass for each declared shape showed of the selected layers."""

    calls: dict[str, list[LinearShape]] = field(default_factory=dict)
    """Shapes of all calls of each layer, by its dotted name."""
    samples: dict[LinearShape, tuple[nn.Linear, torch.Tensor]] = field(default_factory=dict)
    """A copy of a layer and its captured input [..., in] for each shape."""
    sqnr_db: dict[tuple[str, str], float] = field(default_factory=dict)
    """(layer, scheme) to the worst SQNR of the layer's outputs, in dB."""
    obstacles: dict[tuple[str, str], str] = field(default_factory=dict)
    """(layer, scheme) to why the layer can't have it."""


def survey(
    model: nn.Module,
    layers: Mapping[str, nn.Linear],
    calls: Mapping[str, Arguments],
    candidates: Sequence[str],
    device_type: str,
    expired: Callable[[], bool],
) -> Survey:
    """Run `model` eagerly once for each of `calls` and look at every call of `layers`.

    Each layer is quantized by itself and given its own inputs, one after the other, so that one copy of one layer is
    all the memory this takes. SQNR is that of eager code; compiled code is held against it when a recipe is applied.

    Args:
        model: the component, not quantized.
        layers: the layers to choose for, by dotted name.
        calls: arguments of the component's forward by shape label.
        candidates: schemes that the device can run.
        device_type: `cpu` or `cuda`, for limits that compiled code has there.
        expired: whether time is up; calls are then still counted, but no errors measured.
    """
    found = Survey({name: [] for name in layers})

    def look(name: str, layer: nn.Linear, activation: torch.Tensor, output: torch.Tensor) -> None:
        shape = shape_of(layer, activation)
        found.calls[name].append(shape)
        if shape not in found.samples:
            found.samples[shape] = (_copy(layer), activation.detach().clone(memory_format=torch.preserve_format))
        for scheme in candidates:
            key = (name, scheme)
            unfit = SCHEMES[scheme].why_not_layer(
                shape.in_features, shape.out_features, (shape.rows,), device_type, shape.dtype
            )
            if unfit:
                found.obstacles[key] = unfit
            if key in found.obstacles or expired():
                continue
            try:
                noisy = in_scheme(scheme, layer, activation)(activation)
            except FAILURES as error:
                found.obstacles[key] = f"fails: {first_line(error)}"
                continue
            found.sqnr_db[key] = min(found.sqnr_db.get(key, math.inf), sqnr_db(output, noisy))

    def hook_of(name: str) -> Callable[..., None]:
        def hook(layer: nn.Linear, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> None:
            look(name, layer, args[0] if args else kwargs["input"], output)

        return hook

    hooks = [layer.register_forward_hook(hook_of(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            for call in calls.values():
                model(**call)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _copy(layer: nn.Linear) -> nn.Linear:
    """Where the model is streamed, a layer's own weights are on the device only while its block runs."""
    copy = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    for name, parameter in layer.named_parameters():
        setattr(copy, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
    return copy


def shape_of(layer: nn.Linear, activation: torch.Tensor) -> LinearShape:
    """The shape of one call."""
    rows = activation.numel() // max(activation.shape[-1], 1)
    return LinearShape(
        rows, layer.in_features, layer.out_features, dtype_name(layer.weight.dtype), layer.bias is not None
    )


def sqnr_db(exact: torch.Tensor, noisy: torch.Tensor) -> float:
    """10 log10(‖exact‖² / ‖noisy − exact‖²) in dB: infinite where equal, −infinite where `noisy` is not finite.

    The signal-to-quantization-noise ratio of Widrow & Kollár, Quantization Noise (2008).
    """
    reference = exact.detach().float()
    noise = float((noisy.detach().float() - reference).square().sum(dtype=torch.float64))
    signal = float(reference.square().sum(dtype=torch.float64))
    if not math.isfinite(noise) or not math.isfinite(signal):
        return -math.inf
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
