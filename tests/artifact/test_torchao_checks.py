from typing import Any

import pytest
import torch
from schemes.layers import PARAMETERS, quantized

from qcompile.artifact.torchao_checks import check_names, check_parts


def parts_of(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: getattr(weight, name) for name in weight.__tensor_flatten__()[0]}


@pytest.mark.parametrize("scheme", [p for p in PARAMETERS if p.values[0] != "none"])
def test_what_the_schemes_make_is_taken(scheme: str) -> None:
    for features in ((128, 96), (256, 160)):
        weight = quantized(scheme, *features).weight
        check_parts(weight, parts_of(weight))


@pytest.mark.parametrize(
    "scheme", ["int8_dynamic", "int8_dynamic_intx", "float8_weight_only", "mxfp8", "nvfp4_weight_only"]
)
def test_other_numbers_of_scales_are_refused(scheme: str) -> None:
    weight = quantized(scheme).weight
    parts = parts_of(weight)
    parts["scale"] = (
        parts["scale"].view(torch.uint8)[:1] if scheme in ("mxfp8", "nvfp4_weight_only") else parts["scale"][:1]
    )
    with pytest.raises(ValueError, match="scale has the shape"):
        check_parts(weight, parts)


def tiles(rows: int = 2, columns: int = 8, groups: int = 32) -> tuple[Any, dict[str, torch.Tensor]]:
    from torchao.quantization import Int4TilePackedTo4dTensor

    parts = {
        "qdata": torch.zeros(rows, columns, 32, 4, dtype=torch.int32),
        "scale_and_zero": torch.zeros(groups, 16, 2, dtype=torch.bfloat16),
    }
    return Int4TilePackedTo4dTensor(**parts, block_size=[1, 32], shape=torch.Size([16, 1000])), parts


def test_tiles_of_four_bits() -> None:
    check_parts(*tiles())
    with pytest.raises(ValueError, match=r"qdata has the shape .*it must be \[2, 8, 32, 4\]"):
        check_parts(*tiles(rows=1))
    with pytest.raises(ValueError, match=r"scale_and_zero has the shape .*it must be \[32, 16, 2\]"):
        check_parts(*tiles(groups=31))


def test_rows_of_four_bits() -> None:
    from torchao.quantization import Int4Tensor

    def made(
        qdata: tuple[int, ...] = (16, 128),
        scale: tuple[int, ...] = (2, 16),
        zero_point: tuple[int, ...] = (2, 16),
        shape: tuple[int, ...] = (16, 256),
    ) -> tuple[Any, dict[str, torch.Tensor]]:
        parts = {
            "qdata": torch.zeros(qdata, dtype=torch.int8),
            "scale": torch.zeros(scale).bfloat16(),
            "zero_point": torch.zeros(zero_point).bfloat16(),
        }
        return Int4Tensor(**parts, block_size=[*[1] * (len(shape) - 1), 128], shape=torch.Size(shape)), parts

    check_parts(*made())
    # The same number of elements in another shape would let the kernel run past their end.
    for qdata in ((16, 64), (128, 16), (2048,)):
        with pytest.raises(ValueError, match=r"qdata has the shape .*; for \[16, 256\] it must be \[16, 128\]"):
            check_parts(*made(qdata=qdata))
    for wrong in ({"scale": (16, 2)}, {"zero_point": (16, 2)}, {"scale": (32,)}):
        with pytest.raises(ValueError, match=r"(scale|zero_point) has the shape .*; for .* it must be \[2, 16\]"):
            check_parts(*made(**wrong))
    for shape in ((1, 16, 256), (4096,)):
        with pytest.raises(ValueError, match="rows of four bits have two dimensions and even lengths"):
            check_parts(*made(shape=shape, **dict.fromkeys(("scale", "zero_point"), (32,))))


@pytest.mark.parametrize("block", [0, -32, 48])
def test_blocks_that_do_not_fit(block: int) -> None:
    weight = quantized("mxfp8").weight
    weight.block_size = block
    with pytest.raises(ValueError, match=f"block_size {block} does not fit"):
        check_parts(weight, parts_of(weight))


def test_names_that_are_none() -> None:
    check_names({"_data": {"a": [{"_type": "torch.dtype", "_data": "int8"}]}})
    with pytest.raises(ValueError, match="'load' is no dtype"):
        check_names({"_data": {"a": [{"_type": "torch.dtype", "_data": "load"}]}})
    with pytest.raises(ValueError, match="'__init__' is no value of 'KernelPreference'"):
        check_names({"a": {"_type": "KernelPreference", "_data": "__init__"}})


@pytest.mark.parametrize("name", ["mro", "name", "symmetric", ["SYMMETRIC"], None])
def test_names_of_no_member_of_an_enumeration(name: Any) -> None:
    check_names({"a": {"_type": "MappingType", "_data": "SYMMETRIC"}})
    with pytest.raises(ValueError, match="is no value of 'MappingType'; allowed are SYMMETRIC, "):
        check_names({"a": [{"_type": "MappingType", "_data": name}]})


@pytest.mark.parametrize("shape", [[16], [], [2, 16, 1000]])
def test_tiles_have_two_dimensions(shape: list[int]) -> None:
    weight, parts = tiles()
    made = type(weight)(**parts, block_size=[1] * len(shape), shape=torch.Size(shape))
    with pytest.raises(ValueError, match="tiles of four bits have two dimensions"):
        check_parts(made, parts)


@pytest.mark.parametrize("block_size", [None, "all", 1.5, {}])
def test_blocks_that_are_left_out(block_size: Any) -> None:
    weight = quantized("float8_weight_only").weight
    weight.block_size = block_size
    parts = parts_of(weight) | {"scale": torch.ones(3, 1)}
    with pytest.raises(ValueError, match="a number or a list of numbers is needed"):
        check_parts(weight, parts)
