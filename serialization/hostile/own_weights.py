"""Parts of quantized weights that do not fit together: a kernel that believed them would read past their end."""

from collections.abc import Callable
from typing import Any

import torch

from qcompile.weights import GroupedInt4Weight, RowScaledWeight, StaticFloat8Weight

LAYER = "redux_up"
"""The layer whose weight is exchanged: [48, 16]."""
_DTYPE = {"_type": "torch.dtype", "_data": "bfloat16"}


def instead(
    kind: str, parts: dict[str, torch.Tensor], **data: object
) -> Callable[[dict[str, torch.Tensor], dict[str, Any]], None]:
    """Store another weight in the place of the one that is there."""

    def change(held: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
        for name in [name for name in held if name.startswith(f"{LAYER}._weight_")]:
            del held[name]
        held.update({f"{LAYER}._weight_{part}": tensor for part, tensor in parts.items()})
        described[f"{LAYER}.weight"] = {"_type": kind, "_data": data, "_tensor_data_names": list(parts)}

    return change


def one_scale() -> Callable[[dict[str, torch.Tensor], dict[str, Any]], None]:
    """int8 rows with one scale for all of them."""
    parts = {"qdata": torch.ones(48, 16, dtype=torch.int8), "scale": torch.ones(1, 1).bfloat16()}
    return instead(RowScaledWeight.__name__, parts, dtype=_DTYPE)


def half_of_the_groups() -> Callable[[dict[str, torch.Tensor], dict[str, Any]], None]:
    """4-bit groups of 16, half as many as the shape needs."""
    parts = {
        "qdata": torch.ones(12, 16, dtype=torch.uint8),
        "scale": torch.ones(48, 1).bfloat16(),
        "shift": torch.ones(48, 1).bfloat16(),
    }
    return instead(GroupedInt4Weight.__name__, parts, shape=[48, 16], dtype=_DTYPE)


def dtype_of_a_function() -> Callable[[dict[str, torch.Tensor], dict[str, Any]], None]:
    """float8 whose dtype is `torch.load`."""
    parts = {
        "qdata": torch.ones(48, 16).to(torch.float8_e4m3fn),
        "scale": torch.ones(()),
        "input_scale": torch.ones(()),
    }
    return instead(StaticFloat8Weight.__name__, parts, dtype=_DTYPE | {"_data": "load"})


def short_tiles() -> Callable[[dict[str, torch.Tensor], dict[str, Any]], None]:
    """torchao's 4-bit tiles, one where six times eight are needed."""
    parts = {"qdata": torch.ones(1, 8, 32, 4, dtype=torch.int32), "scale_and_zero": torch.ones(32, 48, 2).bfloat16()}
    return instead("Int4TilePackedTo4dTensor", parts, block_size=[1, 32], shape=[48, 16])
