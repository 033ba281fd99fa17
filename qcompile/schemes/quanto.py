"""Schemes of optimum-quanto, weights only: legacy, for who needs the numbers of an older setup.

quanto chooses scales and rounds; the weights are held by classes of ours (`qcompile.weights`). quanto's own classes
turn into other ones when they are moved to a GPU, compile C++ or CUDA code at the first call of a 4-bit layer, and can
be neither deep-copied nor moved back without loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompile.schemes.scheme import Scheme, Seen, Settings

if TYPE_CHECKING:
    import torch
    from torch import nn

_PACKAGES = ("torchao", "optimum.quanto")


def _rows(layer: nn.Linear, kind: str) -> torch.Tensor:
    import torch
    from optimum.quanto import AbsmaxOptimizer, qtypes
    from optimum.quanto.tensor.weights import WeightQBytesTensor

    from qcompile.weights import RowScaledWeight

    weight, qtype = layer.weight.detach(), qtypes[kind]
    # quanto takes a single row for a whole tensor.
    axis = 0 if weight.shape[0] > 1 else None
    scale = AbsmaxOptimizer()(weight, qtype, axis=axis)
    # Rows of zeros have the scale 0, and quanto divides by it.
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    made = WeightQBytesTensor.quantize(weight, qtype, axis, scale, None, optimized=False)
    return RowScaledWeight(made._data, made._scale.reshape(-1, 1), weight.dtype)


def _int8(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    return _rows(layer, "qint8")


def _float8(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    return _rows(layer, "qfloat8_e4m3fn")


def _int4(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    import torch
    from optimum.quanto import MaxOptimizer, qtypes
    from optimum.quanto.tensor.weights import WeightQBitsTensor

    from qcompile.weights import GroupedInt4Weight

    weight, qtype = layer.weight.detach(), qtypes["qint4"]
    scale, shift = MaxOptimizer()(weight, qtype, 0, settings.group_size)
    # Groups of one value have the scale 0, and quanto divides by it.
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    made = WeightQBitsTensor.quantize(weight, qtype, 0, settings.group_size, scale, shift, optimized=False)
    return GroupedInt4Weight(made._data._data, made._scale, made._shift, weight.shape, weight.dtype)


def _row_bytes(in_features: int, out_features: int, element_bytes: int, settings: Settings) -> int:
    return in_features * out_features + out_features * element_bytes


def _int4_bytes(in_features: int, out_features: int, element_bytes: int, settings: Settings) -> int:
    group = settings.group_size or 1
    groups = in_features * out_features // group
    return (groups + 1) // 2 * group + 2 * groups * element_bytes


def _is_row_scaled(weight: torch.Tensor, dtype: str) -> bool:
    return type(weight).__name__ == "RowScaledWeight" and str(getattr(weight, "qdata", weight).dtype) == dtype


QUANTO = (
    Scheme(
        name="quanto_int8",
        summary="quanto's qint8: int8 weights per output row, computed in the model's dtype",
        backend="quanto",
        weight=_int8,
        recognise=lambda weight: _is_row_scaled(weight, "torch.int8"),
        count_bytes=_row_bytes,
        packages=_PACKAGES,
        legacy=True,
    ),
    Scheme(
        name="quanto_int4",
        summary="quanto's qint4: 4-bit weights in groups, computed in the model's dtype",
        backend="quanto",
        weight=_int4,
        recognise=lambda weight: type(weight).__name__ == "GroupedInt4Weight",
        count_bytes=_int4_bytes,
        packages=_PACKAGES,
        group_sizes=(128, 32, 64),
        legacy=True,
    ),
    Scheme(
        name="quanto_float8",
        summary="quanto's qfloat8: float8 (e4m3) weights per output row, computed in the model's dtype",
        backend="quanto",
        weight=_float8,
        recognise=lambda weight: _is_row_scaled(weight, "torch.float8_e4m3fn"),
        count_bytes=_row_bytes,
        packages=_PACKAGES,
        min_cuda_capability=(8, 9),
        legacy=True,
    ),
)
