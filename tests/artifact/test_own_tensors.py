import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import ROOT
from schemes.layers import quantized

from qcompile.artifact.own_tensors import NAMES, describe, put_together
from qcompile.modules import inner_tensors
from qcompile.schemes import Settings
from qcompile.weights import OWN_WEIGHTS, GroupedInt4Weight

MADE_BY = {
    "StaticFloat8Weight": ("float8_static",),
    "RowScaledWeight": ("quanto_int8", "quanto_float8"),
    "GroupedInt4Weight": ("quanto_int4",),
}
SCHEMES = [scheme for schemes in MADE_BY.values() for scheme in schemes]


def weight(scheme: str) -> torch.Tensor:
    return quantized(scheme, 128, 32, settings=Settings(64 if scheme == "quanto_int4" else None)).weight


def through_json(description: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(description))


def test_every_class_is_made_by_a_scheme() -> None:
    assert set(MADE_BY) == {kind.__name__ for kind in OWN_WEIGHTS} == NAMES
    for name, schemes in MADE_BY.items():
        assert {type(weight(scheme)).__name__ for scheme in schemes} == {name}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_come_back(scheme: str) -> None:
    original = weight(scheme)
    parts, description = describe(original)
    assert all(type(part) is torch.Tensor for part in parts.values())
    found = put_together(through_json(description), parts)
    assert type(found) is type(original)
    assert (found.shape, found.dtype) == (original.shape, original.dtype)
    for mine, theirs in zip(inner_tensors(found), inner_tensors(original), strict=True):
        assert torch.equal(mine.double(), theirs.double())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts, data: data.update(dtype={"_type": "torch.dtype", "_data": "load"}), "allowed are bfloat16"),
        (lambda parts, data: data.update(dtype={"_type": "torch.dtype", "_data": "int8"}), "allowed are bfloat16"),
        (lambda parts, data: data.update(dtype={"_type": "Evil", "_data": "bfloat16"}), "allowed are bfloat16"),
        (lambda parts, data: data.update(dtype="bfloat16"), "allowed are bfloat16"),
        (lambda parts, data: data.update(more=1), "the attributes .*'more'"),
        (lambda parts, data: parts.update(more=torch.ones(1)), "the parts .*'more'"),
        (lambda parts, data: parts.pop("scale"), "needed are"),
        (lambda parts, data: parts.update(scale=parts["scale"].double()), "scale is .* torch.float64"),
        (lambda parts, data: parts.update(scale=torch.ones(3, 1).to(parts["scale"].dtype)), "scale is .3, 1."),
        (lambda parts, data: parts.update(qdata=parts["qdata"].to(torch.int32)), "qdata is .* torch.int32"),
        (lambda parts, data: parts.update(qdata=parts["qdata"].flatten()), "it must have two dimensions"),
    ],
)
def test_what_does_not_fit_is_refused(scheme: str, change: Callable, message: str) -> None:
    parts, description = describe(weight(scheme))
    description = through_json(description)
    change(parts, description["_data"])
    with pytest.raises(ValueError, match=message):
        put_together(description, parts)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([32, 256], "qdata is .32, 64"),
        ([30, 128], "qdata is .32, 64"),
        ([32, 100], "groups of 64 do not divide rows of 100"),
        ([32, -128], "two positive numbers"),
        ([32, 0], "two positive numbers"),
        ([32, 128.0], "two positive numbers"),
        ([True, 128], "two positive numbers"),
        ([32], "two positive numbers"),
        ("32", "two positive numbers"),
        ([2**62, 128], "qdata is"),
    ],
)
def test_shapes_that_do_not_fit_their_groups(shape: Any, message: str) -> None:
    parts, description = describe(weight("quanto_int4"))
    description["_data"]["shape"] = shape
    with pytest.raises(ValueError, match=message):
        put_together(description, parts)


def test_an_odd_number_of_groups() -> None:
    original = quantized("quanto_int4", 64, 3, settings=Settings(64)).weight
    assert isinstance(original, GroupedInt4Weight)
    assert original.qdata.shape == (2, 64)
    found = put_together(*reversed(describe(original)))
    assert torch.equal(found.dequantize(), original.dequantize())
    with pytest.raises(KeyError):
        put_together({"_type": "RowScaledWeight", "_data": {}}, {})


def test_format_md_has_every_class_with_its_parts_and_attributes() -> None:
    text = (ROOT / "serialization" / "FORMAT.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+Weight)` \| ([^|]*) \| ([^|]*) \|", text, re.MULTILINE)
    assert [name for name, _, _ in rows] == [kind.__name__ for kind in OWN_WEIGHTS]
    for kind, (_, parts, attributes) in zip(OWN_WEIGHTS, rows, strict=True):
        assert re.findall(r"`(\w+)`", parts) == kind.tensor_data_names
        assert re.findall(r"`(\w+)`", attributes) == kind.tensor_attribute_names
