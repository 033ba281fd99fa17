import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qcompile.aot.callspec import Signature, call_key, invoke, leaves, rebuild, spec_of
from qcompile.errors import CallError

LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3)
TENSORS = st.builds(torch.zeros, st.lists(st.integers(1, 3), max_size=3).map(tuple))
VALUES = st.recursive(
    LEAVES | TENSORS,
    lambda inner: st.lists(inner, max_size=2) | st.tuples(inner, inner) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=2),
    max_leaves=5,
)  # fmt: skip
CALLS = st.dictionaries(st.sampled_from(["hidden", "context", "scale"]), VALUES).map(
    lambda call: call | {"x": torch.zeros(2, 3)}
)


@given(CALLS)
def test_a_call_has_the_key_of_its_spec_and_is_rebuilt_from_its_tensors(call: dict) -> None:
    found = leaves(call)
    assert call_key(found) == spec_of(call).key()
    tensors = iter([leaf for leaf in found.values() if isinstance(leaf, torch.Tensor)])
    again = rebuild(call, tensors)
    assert list(tensors) == []
    assert call_key(leaves(again)) == call_key(found)


@given(CALLS)
def test_order_and_absent_arguments_do_not_matter(call: dict) -> None:
    reordered = dict(reversed(call.items())) | {"absent": None, "empty": {}}
    assert call_key(leaves(reordered)) == call_key(leaves(call))


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"x": torch.zeros(2, 4)}, r"x is \[2, 4\] float32 \(built for \[2, 3\] float32\)"),
        ({"x": torch.zeros(2, 3).bfloat16()}, r"x is \[2, 3\] bfloat16 \(built for \[2, 3\] float32\)"),
        ({"scale": 2.0}, r"scale is 2.0 \(built for 1.0\)"),
        ({"more": True}, r"more is True \(built for a call without it\)"),
        ({"x": torch.zeros(2, 3, device="meta")}, r"tensors are on meta \(built for cpu\)"),
    ],
)
def test_differences_are_named(change: dict, phrase: str) -> None:
    call = {"x": torch.zeros(2, 3), "scale": 1.0}
    spec, other = spec_of(call), spec_of(call | change)
    assert spec.key() != other.key()
    assert any(re.search(phrase, found) for found in spec.difference(other))


def test_strides_do_not_tell_calls_apart() -> None:
    assert spec_of({"x": torch.zeros(3, 2).T}).key() == spec_of({"x": torch.zeros(2, 3)}).key()


def test_what_can_not_be_compared_is_refused() -> None:
    with pytest.raises(CallError, match="argument x.0 is a object"):
        leaves({"x": [object()]})
    with pytest.raises(CallError, match="this one has none"):
        spec_of({"x": 1})
    with pytest.raises(CallError, match="cpu and meta"):
        spec_of({"x": torch.zeros(1), "y": torch.zeros(1, device="meta")})


class Layer(nn.Module):
    def forward(self, hidden, context=None, *, scale=1.0, **more):
        return hidden


def test_every_way_to_write_a_call_gets_the_same_names() -> None:
    signature = Signature(Layer())
    expected = {"hidden": 1, "context": 2, "scale": 1.0}
    assert signature.name((1, 2), {}) == signature.name((1,), {"context": 2}) == expected
    assert signature.name((), {"context": 2, "hidden": 1, "scale": 1.0}) == expected
    assert list(signature.name((), {"context": 2, "hidden": 1})) == ["hidden", "context", "scale"]
    assert signature.name((1,), {"extra": 3}) == {"hidden": 1, "context": None, "scale": 1.0, "extra": 3}
    with pytest.raises(TypeError, match="3 positional arguments, but forward takes 2"):
        signature.name((1, 2, 3), {})


def test_more_positional_arguments_than_names_go_to_star_args() -> None:
    class Block(nn.Module):
        def forward(self, first, second, *args, third=3, **kwargs):
            return first, second, args, third, kwargs

    block = Block()
    signature = Signature(block)
    call = ((1, 2, "x", None), {"third": 4, "fourth": 5})
    named = signature.name(*call)
    assert named == {"first": 1, "second": 2, "*args": ("x", None), "third": 4, "fourth": 5}
    assert leaves(named) == {"first": 1, "second": 2, "*args.0": "x", "third": 4, "fourth": 5}
    assert invoke(block, named) == block(*call[0], **call[1])
    assert invoke(block, signature.name((1,), {"second": 2})) == block(1, 2)
