"""Weights of our own classes (`qcompile.weights`) <-> plain tensors and a description, laid out as torchao does.

What a file says is checked in full before a weight is made of it: the class is on the list, every part has the dtype
and shape that follow from the others, and nothing else is described.
"""

from collections.abc import Mapping
from typing import Any

import torch

from qcompile.weights import OWN_WEIGHTS, GroupedInt4Weight, RowScaledWeight, StaticFloat8Weight

NAMES = frozenset(kind.__name__ for kind in OWN_WEIGHTS)
"""Classes that `describe` and `put_together` know."""
_FLOATS = ("bfloat16", "float16", "float32")
_DTYPE = "torch.dtype"


def describe(weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Parts of a weight by name, and its description."""
    names, attributes = weight.__tensor_flatten__()  # type: ignore[attr-defined]
    data: dict[str, Any] = {"dtype": {"_type": _DTYPE, "_data": str(attributes["dtype"]).removeprefix("torch.")}}
    if "shape" in attributes:
        data["shape"] = list(attributes["shape"])
    parts = {name: getattr(weight, name).detach() for name in names}
    return parts, {"_type": type(weight).__name__, "_data": data, "_tensor_data_names": list(names)}


def put_together(description: Mapping[str, Any], parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Make a weight of what a file holds.

    Raises:
        ValueError: parts, dtypes, shapes or the description are not those of the class.
        KeyError, TypeError: a key is missing, or a value is of another type.
    """
    make = {
        StaticFloat8Weight.__name__: _static_float8,
        RowScaledWeight.__name__: _row_scaled,
        GroupedInt4Weight.__name__: _grouped_int4,
    }[description["_type"]]
    data = dict(description["_data"])
    named = data.pop("dtype")
    if named not in [{"_type": _DTYPE, "_data": name} for name in _FLOATS]:
        raise ValueError(f"dtype is {named!r:.80}; allowed are {', '.join(_FLOATS)}")
    return make(dict(parts), data, getattr(torch, named["_data"]))


def _static_float8(parts: dict[str, torch.Tensor], data: dict[str, Any], dtype: torch.dtype) -> torch.Tensor:
    _only(parts, ("qdata", "scale", "input_scale"), data, ())
    _expect(parts["qdata"], "qdata", (torch.float8_e4m3fn,), None)
    for name in ("scale", "input_scale"):
        _expect(parts[name], name, (torch.float32,), ())
    return StaticFloat8Weight(**parts, dtype=dtype)


def _row_scaled(parts: dict[str, torch.Tensor], data: dict[str, Any], dtype: torch.dtype) -> torch.Tensor:
    _only(parts, ("qdata", "scale"), data, ())
    _expect(parts["qdata"], "qdata", (torch.int8, torch.float8_e4m3fn), None)
    _expect(parts["scale"], "scale", (dtype,), (parts["qdata"].shape[0], 1))
    return RowScaledWeight(**parts, dtype=dtype)


def _grouped_int4(parts: dict[str, torch.Tensor], data: dict[str, Any], dtype: torch.dtype) -> torch.Tensor:
    _only(parts, ("qdata", "scale", "shift"), data, ("shape",))
    shape = data["shape"]
    if type(shape) is not list or len(shape) != 2 or any(type(size) is not int or size < 1 for size in shape):
        raise ValueError(f"shape is {shape!r:.80}; two positive numbers are needed")
    _expect(parts["qdata"], "qdata", (torch.uint8,), None)
    group = parts["qdata"].shape[1]
    if group < 1 or shape[1] % group:
        raise ValueError(f"groups of {group} do not divide rows of {shape[1]}")
    groups = shape[0] * shape[1] // group
    _expect(parts["qdata"], "qdata", (torch.uint8,), ((groups + 1) // 2, group))
    for name in ("scale", "shift"):
        _expect(parts[name], name, (dtype,), (groups, 1))
    return GroupedInt4Weight(**parts, shape=shape, dtype=dtype)


def _only(
    parts: dict[str, torch.Tensor], part_names: tuple[str, ...], data: dict[str, Any], keys: tuple[str, ...]
) -> None:
    if set(parts) != set(part_names) or set(data) != set(keys):
        raise ValueError(
            f"it has the parts {sorted(parts)} and the attributes {['dtype', *sorted(data)]}; needed are "
            f"{sorted(part_names)} and {['dtype', *keys]}"
        )


def _expect(part: torch.Tensor, name: str, dtypes: tuple[torch.dtype, ...], shape: tuple[int, ...] | None) -> None:
    """Refuse a part of another dtype or shape; a shape of None stands for any two dimensions."""
    fits = part.dim() == 2 if shape is None else tuple(part.shape) == shape
    if part.dtype not in dtypes or not fits:
        need = "two dimensions" if shape is None else f"the shape {list(shape)}"
        raise ValueError(
            f"{name} is {list(part.shape)} {part.dtype}; it must have {need} and be {' or '.join(map(str, dtypes))}"
        )
