"""Weight classes of our own, for formats that torchao has no class for.

Each is a wrapper around plain tensors, as torchao's classes are: it moves, copies, exports and is lifted like them. A
linear that holds one computes with plain torch operations, on every device. `qcompile/artifact/own_tensors.py` stores
them.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torchao.utils import TorchAOBaseTensor

FLOAT8 = torch.float8_e4m3fn
FLOAT8_MAX = torch.finfo(FLOAT8).max


class StaticFloat8Weight(TorchAOBaseTensor):  # type: ignore[misc]
    """float8 weight [out, in] with one scale, for inputs that are quantized to float8 with one fixed scale."""

    tensor_data_names: ClassVar[list[str]] = ["qdata", "scale", "input_scale"]
    tensor_attribute_names: ClassVar[list[str]] = ["dtype"]

    def __new__(
        cls, qdata: torch.Tensor, scale: torch.Tensor, input_scale: torch.Tensor, dtype: torch.dtype
    ) -> "StaticFloat8Weight":
        return _wrapped(cls, qdata, qdata.shape, dtype)  # type: ignore[no-any-return]

    def __init__(self, qdata: torch.Tensor, scale: torch.Tensor, input_scale: torch.Tensor, dtype: torch.dtype) -> None:
        """Hold `qdata` [out, in] float8_e4m3fn, and `scale` and `input_scale`, float32 of no dimension."""
        super().__init__()
        self.qdata, self.scale, self.input_scale = qdata, scale, input_scale

    @classmethod
    def quantized(cls, weight: torch.Tensor, input_peak: float) -> "StaticFloat8Weight":
        """Quantize a weight [out, in]; `input_peak` is the largest magnitude of its inputs."""
        scale = (weight.abs().amax().float() / FLOAT8_MAX).clamp(min=torch.finfo(torch.float32).tiny)
        input_scale = torch.tensor(input_peak / FLOAT8_MAX, dtype=torch.float32, device=weight.device)
        return cls(_to_float8(weight, scale), scale, input_scale, weight.dtype)

    def dequantize(self) -> torch.Tensor:
        """The weight in its own dtype."""
        return (self.qdata.float() * self.scale).to(self.dtype)

    def linear(self, hidden: torch.Tensor) -> torch.Tensor:
        """Product of `hidden` [..., in] and the transposed weight; beyond the input's peak values are cut off."""
        rows = _to_float8(hidden.reshape(-1, hidden.shape[-1]), self.input_scale)
        product = torch._scaled_mm(
            rows,
            self.qdata.t(),
            scale_a=self.input_scale,
            scale_b=self.scale,
            out_dtype=hidden.dtype,
            use_fast_accum=True,
        )
        return product.reshape(*hidden.shape[:-1], -1)


class RowScaledWeight(TorchAOBaseTensor):  # type: ignore[misc]
    """int8 or float8 weight [out, in] with one scale an output row, computed in the scales' dtype; quanto's `qint8`."""

    tensor_data_names: ClassVar[list[str]] = ["qdata", "scale"]
    tensor_attribute_names: ClassVar[list[str]] = ["dtype"]

    def __new__(cls, qdata: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> "RowScaledWeight":
        return _wrapped(cls, qdata, qdata.shape, dtype)  # type: ignore[no-any-return]

    def __init__(self, qdata: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> None:
        """Hold `qdata` [out, in] int8 or float8_e4m3fn, and `scale` [out, 1] of `dtype`."""
        super().__init__()
        self.qdata, self.scale = qdata, scale

    def dequantize(self) -> torch.Tensor:
        """The weight in its own dtype."""
        return self.qdata.to(self.scale.dtype) * self.scale

    def linear(self, hidden: torch.Tensor) -> torch.Tensor:
        """Product of `hidden` [..., in] and the transposed weight."""
        return torch.matmul(hidden, self.dequantize().t())


class GroupedInt4Weight(TorchAOBaseTensor):  # type: ignore[misc]
    """4-bit weight [out, in] with a scale and a shift for every `group_size` elements of a row; quanto's `qint4`.

    Groups in row order are the rows of a matrix. `qdata` holds row i in its low and row i + groups / 2 in its high four
    bits. An element is `scale * bits - shift`.
    """

    tensor_data_names: ClassVar[list[str]] = ["qdata", "scale", "shift"]
    tensor_attribute_names: ClassVar[list[str]] = ["shape", "dtype"]

    def __new__(
        cls, qdata: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, shape: Sequence[int], dtype: torch.dtype
    ) -> "GroupedInt4Weight":
        return _wrapped(cls, qdata, shape, dtype)  # type: ignore[no-any-return]

    def __init__(
        self, qdata: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, shape: Sequence[int], dtype: torch.dtype
    ) -> None:
        """Hold `qdata` [(groups + 1) // 2, group_size] uint8, and `scale` and `shift` [groups, 1] of `dtype`."""
        super().__init__()
        self.qdata, self.scale, self.shift = qdata, scale, shift

    def dequantize(self) -> torch.Tensor:
        """The weight in its own dtype."""
        bits = torch.cat([self.qdata & 15, self.qdata >> 4])[: self.scale.shape[0]]
        return (self.scale * bits.to(self.scale.dtype) - self.shift).reshape(self.shape)

    def linear(self, hidden: torch.Tensor) -> torch.Tensor:
        """Product of `hidden` [..., in] and the transposed weight."""
        return torch.matmul(hidden, self.dequantize().t())


OWN_WEIGHTS = (StaticFloat8Weight, RowScaledWeight, GroupedInt4Weight)
"""Every class of this module."""


def _wrapped(cls: type[Any], part: torch.Tensor, size: Sequence[int], dtype: torch.dtype) -> Any:
    return torch.Tensor._make_wrapper_subclass(cls, size, dtype=dtype, device=part.device, requires_grad=False)


def _to_float8(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (values.float() / scale).clamp(-FLOAT8_MAX, FLOAT8_MAX).to(FLOAT8)


def _linear(function: Any, types: Any, args: Any, kwargs: Any) -> torch.Tensor:
    hidden, weight, bias = (*args, None)[:3]
    bias = (kwargs or {}).get("bias", bias)
    product: torch.Tensor = weight.linear(hidden)
    return product if bias is None else product + bias


for _kind in OWN_WEIGHTS:
    _kind.implements(torch.ops.aten.linear.default)(_linear)
    _kind.implements_torch_function(torch.nn.functional.linear)(_linear)
