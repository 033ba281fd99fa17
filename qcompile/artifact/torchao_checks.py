"""What a file may say of a torchao tensor: torchao itself believes most of it, and its kernels read past the end."""

import enum
from collections.abc import Mapping
from typing import Any

import torch


def check_names(value: Any) -> None:
    """Refuse names that torchao would look up though they are neither dtypes nor members of an enumeration.

    Raises:
        ValueError: for such a name.
    """
    if isinstance(value, list):
        for inner in value:
            check_names(inner)
    if not isinstance(value, dict):
        return
    kind, data = value.get("_type"), value.get("_data")
    if kind == "torch.dtype" and not isinstance(getattr(torch, str(data), None), torch.dtype):
        raise ValueError(f"{data!r} is no dtype")
    known = _enumerations().get(str(kind))
    if known is not None and not (isinstance(data, str) and data in known.__members__):
        raise ValueError(f"{data!r} is no value of {kind!r}; allowed are {', '.join(known.__members__)}")
    for inner in value.values():
        check_names(inner)


def check_parts(tensor: torch.Tensor, held: Mapping[str, torch.Tensor]) -> None:
    """Refuse parts of other sizes than the tensor's shape and blocks give.

    Raises:
        ValueError: naming the part.
    """
    if not hasattr(tensor, "block_size"):
        return
    blocks = tensor.block_size
    if isinstance(blocks, int):
        _check_microscaling(tensor, held, blocks)
    elif isinstance(blocks, list | tuple):
        _check_blocks(tensor, held, list(blocks))
    else:
        raise ValueError(f"block_size is {blocks!r:.80}; a number or a list of numbers is needed")


def _enumerations() -> dict[str, type[enum.Enum]]:
    """Enumerations whose members torchao looks up by name."""
    from torchao.prototype.safetensors.safetensors_utils import ALLOWED_CLASSES

    return {name: kind for name, kind in ALLOWED_CLASSES.items() if issubclass(kind, enum.Enum)}


def _check_blocks(tensor: torch.Tensor, held: Mapping[str, torch.Tensor], blocks: list[Any]) -> None:
    """One scale a block: torchao would broadcast any other number, or fail at the first call."""
    shape = list(tensor.shape)
    if len(blocks) != len(shape) or any(not isinstance(block, int) or block < 1 for block in blocks):
        raise ValueError(f"block_size {blocks} does not fit the shape {shape}")
    need = [-(-size // block) for size, block in zip(shape, blocks, strict=True)]
    for part in ("scale", "zero_point"):
        if part in held and held[part].numel() != torch.Size(need).numel():
            raise ValueError(f"{part} has the shape {list(held[part].shape)}; for blocks of {blocks} it must be {need}")
    if type(tensor).__name__ == "Int4Tensor":
        _check_rows(shape, held, need)
    if type(tensor).__name__ == "Int4TilePackedTo4dTensor":
        _check_tiles(shape, held, blocks)


def _check_rows(shape: list[int], held: Mapping[str, torch.Tensor], blocks: list[int]) -> None:
    """Two weights of a row a byte, and [groups, out] scales: the kernel takes its loops' ends from these shapes."""
    if len(shape) != 2 or shape[1] % 2:
        raise ValueError(f"the shape is {shape}; rows of four bits have two dimensions and even lengths")
    for part, need in (("qdata", [shape[0], shape[1] // 2]), ("scale", blocks[::-1]), ("zero_point", blocks[::-1])):
        if list(held[part].shape) != need:
            raise ValueError(f"{part} has the shape {list(held[part].shape)}; for {shape} it must be {need}")


def _check_tiles(shape: list[int], held: Mapping[str, torch.Tensor], blocks: list[int]) -> None:
    if len(shape) != 2:
        raise ValueError(f"the shape is {shape}; tiles of four bits have two dimensions")
    rows, columns = _up(shape[0], 8), _up(shape[1], 1024)
    for part, need in (
        ("qdata", (rows // 8, columns // 128, 32, 4)),
        ("scale_and_zero", (columns // blocks[-1], rows, 2)),
    ):
        if tuple(held[part].shape) != need:
            raise ValueError(f"{part} has the shape {list(held[part].shape)}; for {shape} it must be {list(need)}")


def _check_microscaling(tensor: torch.Tensor, held: Mapping[str, torch.Tensor], block: int) -> None:
    if block < 1 or tensor.dim() != 2 or tensor.shape[1] % block:
        raise ValueError(f"block_size {block} does not fit the shape {list(tensor.shape)}")
    rows, columns = tensor.shape[0], tensor.shape[1] // block
    # Scales in the tiles of 128 rows and 4 columns that tensor cores read, or row by row.
    swizzled = getattr(tensor, "is_swizzled_scales", False)
    need = _up(rows, 128) * _up(columns, 4) if swizzled else rows * columns
    if held["scale"].numel() != need:
        raise ValueError(f"scale has the shape {list(held['scale'].shape)}; it must have {need} elements")


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
