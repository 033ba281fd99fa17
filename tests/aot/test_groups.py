import functools

import torch
from torch import nn

from aot.tiny import Block, Model, make_model
from qcompile.aot.groups import fingerprint, group_alike
from qcompile.modules import repeated_blocks


def test_layers_that_differ_only_in_values_are_alike() -> None:
    model = make_model()
    assert group_alike(repeated_blocks(model)) == [["blocks.0", "blocks.1", "blocks.2"]]


def test_what_a_graph_would_bake_in_tells_layers_apart() -> None:
    torch.manual_seed(0)
    base = fingerprint(Block())
    assert fingerprint(Block()) == base
    changed = {}
    for name in ("gain", "dtype", "features", "buffer dtype", "attribute tensor", "function", "partial", "child"):
        block = Block(16) if name == "features" else Block(gain=2.0) if name == "gain" else Block()
        if name == "dtype":
            block.first.bfloat16()
        if name == "buffer dtype":
            block.shift = block.shift.double()
        if name == "attribute tensor":
            block.table = torch.ones(3)
        if name == "function":
            block.activation = torch.nn.functional.gelu
        if name == "partial":
            block.activation = functools.partial(torch.nn.functional.gelu, approximate="tanh")
        if name == "child":
            block.second = nn.Identity()
        changed[name] = fingerprint(block)
    assert base not in changed.values()
    assert len(set(changed.values())) == len(changed)


def test_tensors_outside_parameters_count_by_content() -> None:
    one, two, three = Block(), Block(), Block()
    one.table, two.table, three.table = torch.ones(3), torch.ones(3), torch.zeros(3)
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(one) != fingerprint(three)


def test_quantized_and_plain_layers_are_told_apart() -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = Model().eval()
    quantize_(model.blocks[1], Int8WeightOnlyConfig(set_inductor_config=False))
    assert group_alike(repeated_blocks(model)) == [["blocks.0", "blocks.2"], ["blocks.1"]]


def test_different_functions_are_told_apart() -> None:
    one, two = Block(), Block()
    one.activation, two.activation = torch.nn.functional.gelu, torch.nn.functional.silu
    assert fingerprint(one) != fingerprint(two)
