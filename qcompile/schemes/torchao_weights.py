"""How torchao makes the weights of its schemes, and how many bytes they take.

Every configuration is made with `set_inductor_config=False` where it has that field: the default flips inductor options
for the whole process, so that a compiled artifact would depend on what else was quantized before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcompile.schemes.scheme import Seen, Settings

if TYPE_CHECKING:
    import torch
    from torch import nn


def _converted(layer: nn.Linear, config: Any) -> torch.Tensor:
    """The weight that torchao makes of a layer's; the layer stays as it is."""
    from torch import nn
    from torchao.quantization import quantize_

    holder = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta", dtype=layer.weight.dtype)
    holder.weight = layer.weight
    quantize_(holder, config, filter_fn=lambda module, name: True)
    return holder.weight


def int8_dynamic(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """int8 per row; inputs int8 per row as they come."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return _converted(layer, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))


def int8_static(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """int8 per row; inputs int8 with the scale that `seen.peak` gives."""
    import torch
    from torchao.quantization import Int8StaticActivationInt8WeightConfig, PerRow, PerTensor

    assert seen is not None, "a calibrated scheme is given what calibration saw"
    # torchao asks for a scale of as many dimensions as the input has.
    scale = torch.full((1,) * seen.dims, seen.peak / 127, dtype=torch.float32, device=layer.weight.device)
    config = Int8StaticActivationInt8WeightConfig(
        act_quant_scale=scale, granularity=[PerTensor(), PerRow()], set_inductor_config=False
    )
    return _converted(layer, config)


def int8_weight_only(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """int8 per row."""
    from torchao.quantization import Int8WeightOnlyConfig

    return _converted(layer, Int8WeightOnlyConfig(set_inductor_config=False))


def int8_dynamic_intx(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """`settings.weight_bits` bits in groups, a byte each; inputs int8 per row as they come."""
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, PerGroup

    config = Int8DynamicActivationIntxWeightConfig(
        weight_dtype=getattr(torch, f"int{settings.weight_bits}"), weight_granularity=PerGroup(settings.group_size)
    )
    return _converted(layer, config)


def int4_weight_only(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """4 bits in groups, in the tiles of torch's own kernel."""
    from torchao.quantization import Int4WeightOnlyConfig

    # The other layouts need the package mslk, or can't be stored as safetensors.
    config = Int4WeightOnlyConfig(
        group_size=settings.group_size, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
    )
    return _converted(layer, config)


def _float8(layer: nn.Linear, granularity: Any) -> torch.Tensor:
    import torch
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig

    # Without a lower bound an input row of zeros has the scale 0 and comes out as NaN. In float16 the bound divided by
    # float8's largest value must still be a number.
    least = 1e-4 if layer.weight.dtype is torch.float16 else 1e-12
    config = Float8DynamicActivationFloat8WeightConfig(
        granularity=granularity, activation_value_lb=least, set_inductor_config=False
    )
    return _without_nan(_converted(layer, config))


def float8_tensor(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """float8 with one scale; inputs float8 with one scale as they come."""
    from torchao.quantization import PerTensor

    return _float8(layer, PerTensor())


def float8_row(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """float8 per row; inputs float8 per row as they come."""
    from torchao.quantization import PerRow

    return _float8(layer, PerRow())


def float8_weight_only(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """float8 per row."""
    from torchao.quantization import Float8WeightOnlyConfig

    return _without_nan(_converted(layer, Float8WeightOnlyConfig(set_inductor_config=False)))


def _without_nan(weight: Any) -> torch.Tensor:
    """Rows of zeros, which torchao 0.18 divides by a scale of zero, put right in place."""
    empty = weight.scale == 0
    weight.qdata.copy_(weight.qdata.float().masked_fill_(empty, 0.0).to(weight.qdata.dtype))
    weight.scale.masked_fill_(empty, 1.0)
    return weight  # type: ignore[no-any-return]


def float8_dynamic_int4(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """4 bits in groups of 128; inputs float8 per row as they come."""
    from torchao.quantization import Float8DynamicActivationInt4WeightConfig

    # The default layout, preshuffled, can't be stored as safetensors.
    return _converted(layer, Float8DynamicActivationInt4WeightConfig(int4_packing_format="plain"))


def mxfp8(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """float8 in blocks of 32; inputs alike as they come."""
    from torchao.prototype.mx_formats import MXDynamicActivationMXWeightConfig

    return _converted(layer, MXDynamicActivationMXWeightConfig())


def nvfp4(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """4-bit floats in blocks of 16; inputs alike as they come."""
    from torchao.prototype.mx_formats import NVFP4DynamicActivationNVFP4WeightConfig

    # torchao's own kernel for the inputs needs the package mslk.
    return _without_nan4(_converted(layer, NVFP4DynamicActivationNVFP4WeightConfig(use_triton_kernel=False)))


def nvfp4_weight_only(layer: nn.Linear, settings: Settings, seen: Seen | None) -> torch.Tensor:
    """4-bit floats in blocks of 16."""
    from torchao.prototype.mx_formats import NVFP4WeightOnlyConfig

    return _without_nan4(_converted(layer, NVFP4WeightOnlyConfig()))


def _without_nan4(weight: Any) -> torch.Tensor:
    """A weight of nothing but zeros, which torchao 0.18 divides by a scale of zero, put right in place."""
    import torch

    if float(weight.per_tensor_scale) == 0:
        weight.qdata.view(torch.uint8).zero_()
        weight.scale.view(torch.uint8).zero_()
        weight.per_tensor_scale.fill_(1.0)
    return weight  # type: ignore[no-any-return]


def int8_bytes(in_features: int, out_features: int, element_bytes: int, settings: Settings) -> int:
    """A float32 scale and an int8 zero point a row."""
    return in_features * out_features + 5 * out_features


def intx_bytes(in_features: int, out_features: int, element_bytes: int, settings: Settings) -> int:
    """A scale in the weight's dtype and an int8 zero point a group."""
    groups = out_features * in_features // (settings.group_size or 1)
    return in_features * out_features + groups * (element_bytes + 1)


def int4_bytes(in_features: int, out_features: int, element_bytes: int, settings: Settings) -> int:
    """A scale and a zero point in bfloat16 a group of the padded weight."""
    # The kernel wants in features padded to 1024 and out features to 8.
    padded = _up(in_features, 1024) * _up(out_features, 8)
    return padded // 2 + padded // (settings.group_size or 1) * 4


def float8_int4_bytes(in_features: int, out_features: int, element_bytes: int, settings: Settings) -> int:
    """A scale and a zero point in the weight's dtype a group."""
    elements = in_features * out_features
    return elements // 2 + elements // 128 * 2 * element_bytes


def float8_row_bytes(in_features: int, out_features: int, element_bytes: int, settings: Settings) -> int:
    """A float32 scale a row."""
    return in_features * out_features + 4 * out_features


def float8_tensor_bytes(in_features: int, out_features: int, element_bytes: int, settings: Settings) -> int:
    """One float32 scale."""
    return in_features * out_features + 4


def mxfp8_bytes(in_features: int, out_features: int, element_bytes: int, settings: Settings) -> int:
    """A one-byte scale a block."""
    return in_features * out_features + _swizzled(in_features // 32, out_features)


def nvfp4_bytes(in_features: int, out_features: int, element_bytes: int, settings: Settings) -> int:
    """A one-byte scale a block and one float32 scale."""
    return in_features * out_features // 2 + _swizzled(in_features // 16, out_features) + 4


def _swizzled(columns: int, rows: int) -> int:
    """Bytes of one-byte scales in the tiles of 128 rows and 4 columns that Blackwell's tensor cores read."""
    return _up(rows, 128) * _up(columns, 4)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
