"""Schemes that need no backend: a calibrated float8 that torchao 0.18 does not have, and leaving layers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompile.schemes.scheme import Scheme, Seen, Settings

if TYPE_CHECKING:
    import torch
    from torch import nn


def _float8_static(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    from qcompile.weights import StaticFloat8Weight

    assert seen is not None, "a calibrated scheme is given what calibration saw"
    return StaticFloat8Weight.quantized(layer.weight.detach(), seen.peak)


def _as_it_is(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    return layer.weight


def _is_plain(weight: torch.Tensor) -> bool:
    import torch

    return type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.is_floating_point()


OWN = (
    Scheme(
        name="float8_static",
        summary="float8 (e4m3) weights and activations, one scale each a layer, the activations' fixed by calibration",
        backend="qcompile",
        weight=_float8_static,
        recognise=lambda weight: type(weight).__name__ == "StaticFloat8Weight",
        count_bytes=lambda in_features, out_features, *_: in_features * out_features + 8,
        min_cuda_capability=(8, 9),
        # What torch._scaled_mm takes.
        feature_multiple=16,
        calibrated=True,
    ),
    Scheme(
        name="none",
        summary="the layers stay in the model's dtype; to switch a step off with --set, or to keep layers from a "
        "later step",
        backend="qcompile",
        weight=_as_it_is,
        recognise=_is_plain,
        count_bytes=lambda in_features, out_features, element_bytes, _: in_features * out_features * element_bytes,
        packages=(),
    ),
)
