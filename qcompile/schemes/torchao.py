"""Schemes of torchao. Adding one is adding a row.

Every configuration is made with `set_inductor_config=False` where it has that field: the default flips inductor options
for the whole process, so that a compiled artifact would depend on what else was quantized before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcompile.schemes.scheme import Scheme

if TYPE_CHECKING:
    import torch


def _int8_dynamic() -> Any:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)


def _int8_weight_only() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return Int8WeightOnlyConfig(set_inductor_config=False)


def _float8_weight_only() -> Any:
    from torchao.quantization import Float8WeightOnlyConfig

    return Float8WeightOnlyConfig(set_inductor_config=False)


def _is(weight: torch.Tensor, class_name: str, dynamic: bool) -> bool:
    return type(weight).__name__ == class_name and (getattr(weight, "act_quant_kwargs", None) is not None) == dynamic


TORCHAO = (
    Scheme(
        name="int8_dynamic",
        summary="int8 weights per output row, activations quantized to int8 per row as they come",
        backend="torchao",
        config=_int8_dynamic,
        recognise=lambda weight: _is(weight, "Int8Tensor", dynamic=True),
        bytes_per_weight=1,
        bytes_per_output=5,  # float32 scale and int8 zero point
        # cuBLAS refuses 16 rows or fewer; eager torchao falls back, compiled code can't (pytorch/ao#2376).
        min_rows_compiled={"cuda": 17},
        # torch._int_mm on CUDA takes multiples of 8 only.
        feature_multiple=8,
    ),
    Scheme(
        name="int8_weight_only",
        summary="int8 weights per output row, computed in the model's dtype",
        backend="torchao",
        config=_int8_weight_only,
        recognise=lambda weight: _is(weight, "Int8Tensor", dynamic=False),
        bytes_per_weight=1,
        bytes_per_output=5,
    ),
    Scheme(
        name="float8_weight_only",
        summary="float8 (e4m3) weights per output row, computed in the model's dtype",
        backend="torchao",
        config=_float8_weight_only,
        recognise=lambda weight: _is(weight, "Float8Tensor", dynamic=False),
        bytes_per_weight=1,
        bytes_per_output=4,
        min_cuda_capability=(8, 9),
    ),
)
