"""Schemes of torchao. Adding one is adding a row, and what makes its weight in `torchao_weights`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompile.schemes import torchao_weights as made
from qcompile.schemes.scheme import Scheme

if TYPE_CHECKING:
    import torch

# cuBLAS refuses 16 rows or fewer; eager torchao falls back, compiled code can't (pytorch/ao#2376).
_INT8_ROWS = {"cuda": 17}
# torch._int_mm on CUDA takes multiples of 8 only, torch._scaled_mm multiples of 16.
_INT8_FEATURES = 8
_FLOAT8_FEATURES = 16
# cuBLAS multiplies int8 on an H100 at 886 TFLOP/s where bfloat16 gets 694 (recipes/measured), which quantizing the
# activations more than eats up; Triton's kernels are faster, and only a search takes them.
_HOPPER = ((9, 0),)
# SDXL's layers by themselves on an H100, kernels searched for: 1.3 to 2.4 times as long (tests/gpu/RECORD.md).
_INT8_SLOW = {(9, 0): 1280}
_EXPORT_LOSES_A_CONSTANT = "torch.export loses a constant that unpacking of 4-bit numbers makes"


def _is(weight: torch.Tensor, class_name: str, dynamic: bool) -> bool:
    return type(weight).__name__ == class_name and (getattr(weight, "act_quant_kwargs", None) is not None) == dynamic


def _is_int8(weight: torch.Tensor, dynamic: bool, static: bool = False) -> bool:
    return (
        _is(weight, "Int8Tensor", dynamic or static)
        and (getattr(weight, "act_quant_scale", None) is not None) == static
    )


def _is_float8(weight: torch.Tensor, by_row: bool) -> bool:
    return _is(weight, "Float8Tensor", dynamic=True) and (getattr(weight, "block_size", [0])[0] == 1) == by_row


TORCHAO = (
    Scheme(
        name="int8_dynamic",
        summary="int8 weights per output row, activations quantized to int8 per row as they come",
        backend="torchao",
        weight=made.int8_dynamic,
        recognise=lambda weight: _is_int8(weight, dynamic=True),
        count_bytes=made.int8_bytes,
        min_rows_compiled=_INT8_ROWS,
        feature_multiple=_INT8_FEATURES,
        slow_unless_searched=_HOPPER,
        slow_up_to_features=_INT8_SLOW,
    ),
    Scheme(
        name="int8_static",
        summary="int8 weights per output row, activations quantized to int8 with one scale fixed by calibration",
        backend="torchao",
        weight=made.int8_static,
        recognise=lambda weight: _is_int8(weight, dynamic=False, static=True),
        count_bytes=lambda *layer: made.int8_bytes(*layer) + 4,
        min_rows_compiled=_INT8_ROWS,
        feature_multiple=_INT8_FEATURES,
        slow_unless_searched=_HOPPER,
        calibrated=True,
    ),
    Scheme(
        name="int8_weight_only",
        summary="int8 weights per output row, computed in the model's dtype",
        backend="torchao",
        weight=made.int8_weight_only,
        recognise=lambda weight: _is_int8(weight, dynamic=False),
        count_bytes=made.int8_bytes,
    ),
    Scheme(
        name="int8_dynamic_intx",
        summary="weights rounded to few bits in groups, but stored in a byte each; activations int8 per row; to try "
        "out what a bit width does to a picture",
        backend="torchao",
        weight=made.int8_dynamic_intx,
        recognise=lambda weight: type(weight).__name__ == "IntxUnpackedToInt8Tensor",
        count_bytes=made.intx_bytes,
        group_sizes=(32, 16, 64, 128, 256),
        weight_bits=(4, 2, 3, 5, 6, 7, 8),
    ),
    Scheme(
        name="int4_weight_only",
        summary="4-bit weights in groups, computed in bfloat16; in features are padded to multiples of 1024",
        backend="torchao",
        weight=made.int4_weight_only,
        recognise=lambda weight: type(weight).__name__ == "Int4TilePackedTo4dTensor",
        count_bytes=made.int4_bytes,
        devices=("cuda",),
        min_cuda_capability=(8, 0),
        dtypes=("bfloat16",),
        group_sizes=(128, 32, 64, 256),
    ),
    Scheme(
        name="float8_tensor",
        summary="float8 (e4m3) weights and activations, one scale each a layer, the activations' as they come",
        backend="torchao",
        weight=made.float8_tensor,
        recognise=lambda weight: _is_float8(weight, by_row=False),
        count_bytes=made.float8_tensor_bytes,
        devices=("cuda",),
        min_cuda_capability=(8, 9),
        feature_multiple=_FLOAT8_FEATURES,
    ),
    Scheme(
        name="float8_row",
        summary="float8 (e4m3) weights per output row, activations quantized to float8 per row as they come",
        backend="torchao",
        weight=made.float8_row,
        recognise=lambda weight: _is_float8(weight, by_row=True),
        count_bytes=made.float8_row_bytes,
        devices=("cuda",),
        min_cuda_capability=(8, 9),
        dtypes=("bfloat16",),
        feature_multiple=_FLOAT8_FEATURES,
    ),
    Scheme(
        name="float8_weight_only",
        summary="float8 (e4m3) weights per output row, computed in the model's dtype",
        backend="torchao",
        weight=made.float8_weight_only,
        recognise=lambda weight: _is(weight, "Float8Tensor", dynamic=False),
        count_bytes=made.float8_row_bytes,
        min_cuda_capability=(8, 9),
    ),
    Scheme(
        name="float8_dynamic_int4",
        summary="4-bit weights in groups of 128, activations quantized to float8 per row as they come",
        backend="torchao",
        weight=made.float8_dynamic_int4,
        recognise=lambda weight: type(weight).__name__ == "Int4Tensor",
        count_bytes=made.float8_int4_bytes,
        devices=("cuda",),
        min_cuda_capability=(9, 0),
        packages=("torchao", "mslk"),
        dtypes=("bfloat16",),
        group_sizes=(128,),
        tried=False,
    ),
    Scheme(
        name="mxfp8",
        summary="float8 (e4m3) weights and activations with a power-of-two scale for every 32 elements",
        backend="torchao",
        weight=made.mxfp8,
        recognise=lambda weight: type(weight).__name__ == "MXTensor",
        count_bytes=made.mxfp8_bytes,
        devices=("cuda",),
        min_cuda_capability=(10, 0),
        dtypes=("bfloat16",),
        feature_multiple=32,
        tried=False,
    ),
    Scheme(
        name="nvfp4",
        summary="4-bit float weights and activations with a float8 scale for every 16 elements",
        backend="torchao",
        weight=made.nvfp4,
        recognise=lambda weight: _is(weight, "NVFP4Tensor", dynamic=True),
        count_bytes=made.nvfp4_bytes,
        devices=("cuda",),
        min_cuda_capability=(10, 0),
        dtypes=("bfloat16",),
        feature_multiple=32,
        tried=False,
    ),
    Scheme(
        name="nvfp4_weight_only",
        summary="4-bit float weights with a float8 scale for every 16 elements, computed in the model's dtype",
        backend="torchao",
        weight=made.nvfp4_weight_only,
        recognise=lambda weight: _is(weight, "NVFP4Tensor", dynamic=False),
        count_bytes=made.nvfp4_bytes,
        min_cuda_capability=(8, 9),
        dtypes=("bfloat16", "float32"),
        feature_multiple=16,
        why_not_aot=_EXPORT_LOSES_A_CONSTANT,
    ),
)
