import copy
from typing import Any

import pytest
import torch
from torch import nn

from aot.tiny import Block, make_call, make_model
from qcompile.aot import export
from qcompile.aot.bind import Binding
from qcompile.aot.callspec import leaves, spec_of
from qcompile.aot.capture import capture_calls
from qcompile.aot.export import describe_output, lift, rebuild_output
from qcompile.errors import CallError, StepError
from qcompile.modules import inner_tensors, linears, repeated_blocks
from qcompile.package import Package
from qcompile.schemes import SCHEMES, Seen, Settings


class Plain:
    """A processor of attention, as diffusers has them."""

    _attention_backend = None


class RunsGraph:
    """Runs a lifted graph as it was exported, in the place of code compiled from it: all but the compiler."""

    def __init__(self, module: nn.Module, arguments: dict) -> None:
        lifted = lift(module, arguments)
        self._graph = lifted.program.module()
        call = spec_of(arguments)
        self.package = Package(
            "model", "x.pt2", type(module).__name__, ("",), ("s",), call, lifted.inputs, lifted.output, {}, {}, 0.0
        )

    def run(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(self._graph(*inputs))


def block_calls(model: nn.Module, call: dict) -> dict[str, dict]:
    found = capture_calls(repeated_blocks(model), lambda: model(**call), lambda name, spec: True)
    return {name: arguments for (name, _), arguments in found.arguments.items()}


@pytest.mark.parametrize(
    "scheme", [None, *(name for name, scheme in SCHEMES.items() if "cpu" in scheme.devices and not scheme.why_not_aot)]
)
def test_one_graph_serves_every_layer_with_its_own_weights(scheme: str | None) -> None:
    model = make_model().bfloat16()
    call = {name: tensor.bfloat16() for name, tensor in make_call().items()}
    if scheme:
        for layer in linears(model.blocks).values():
            SCHEMES[scheme].quantize(layer, Settings(32 if SCHEMES[scheme].group_sizes else None), Seen(3.0, 3))
    calls = block_calls(model, call)
    graph = RunsGraph(model.blocks[0], calls["blocks.0"])
    outputs = []
    for name, block in repeated_blocks(model).items():
        expected = block(**calls[name])
        found = Binding(block, graph).run(leaves(calls[name]))
        assert type(found) is tuple
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.02)
        outputs.append(found[1])
    assert not torch.allclose(outputs[0], outputs[2], rtol=0.02, atol=0.02)  # the weights do differ


def test_no_weight_is_left_in_the_graph() -> None:
    model = make_model()
    lifted = lift(model, make_call())
    assert not dict(lifted.program.state_dict)
    names = {item.name for item in lifted.inputs if item.part is not None}
    assert names == {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    biggest = max((tensor.numel() for tensor in lifted.program.constants.values()), default=0)
    assert biggest <= 32  # torch.arange, which depends on shapes only


def test_exporting_leaves_the_module_as_it_was() -> None:
    block = Block().eval().requires_grad_(False)
    for layer in linears(block).values():
        SCHEMES["int8_weight_only"].quantize(layer)
    before = copy.deepcopy(block.state_dict())
    arguments = {"hidden": torch.randn(1, 24, 32), "context": torch.randn(1, 5, 8)}
    lift(block, arguments)
    assert list(block.state_dict()) == list(before)
    assert type(block.first.weight) is type(before["first.weight"]) or type(block.first.weight.data) is type(
        before["first.weight"]
    )
    block.to("cpu")  # "Couldn't swap" would be raised here by a module that was exported itself


def test_exporting_takes_no_second_copy_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block().eval().requires_grad_(False)
    for layer in linears(block).values():
        SCHEMES["int8_weight_only"].quantize(layer)
    own = {part.data_ptr() for tensor in block.parameters() for part in inner_tensors(tensor)}
    seen: set[int] = set()
    really = export._export

    def look(caller: nn.Module, *rest: Any) -> Any:
        seen.update(part.data_ptr() for tensor in caller.parameters() for part in inner_tensors(tensor))
        return really(caller, *rest)

    monkeypatch.setattr(export, "_export", look)
    lift(block, {"hidden": torch.randn(1, 24, 32), "context": torch.randn(1, 5, 8)})
    assert seen == own


def test_attention_that_is_computed_otherwise_since_raises() -> None:
    block = Block().eval().requires_grad_(False)
    block.first.processor = Plain()
    arguments = {"hidden": torch.randn(1, 24, 32), "context": torch.randn(1, 5, 8)}
    binding = Binding(block, RunsGraph(block, arguments))
    kept = block.first.processor
    block.first.processor = Plain()
    with pytest.raises(CallError, match="the processor of first was replaced by Plain after the artifact was loaded"):
        binding.run(leaves(arguments))
    block.first.processor = kept
    binding.run(leaves(arguments))
    kept._attention_backend = "flash"
    with pytest.raises(CallError, match="the attention backend of first was changed to flash after"):
        binding.run(leaves(arguments))


def test_a_binding_reads_the_weights_of_the_moment() -> None:
    block = Block().eval().requires_grad_(False)
    arguments = {"hidden": torch.randn(1, 24, 32), "context": torch.randn(1, 5, 8)}
    binding = Binding(block, RunsGraph(block, arguments))
    with torch.no_grad():
        block.first.weight.mul_(2)
        block.second.bias = nn.Parameter(torch.ones(32), requires_grad=False)
        block.shift = torch.zeros(32)
        expected = block(**arguments)
    torch.testing.assert_close(binding.run(leaves(arguments)), expected)
    block.load_state_dict(make_model(seed=5).blocks[0].state_dict())
    torch.testing.assert_close(binding.run(leaves(arguments)), block(**arguments))


def test_what_compiled_code_can_not_follow_raises() -> None:
    block = Block().eval().requires_grad_(False)
    arguments = {"hidden": torch.randn(1, 24, 32), "context": torch.randn(1, 5, 8)}
    graph = RunsGraph(block, arguments)
    binding = Binding(block, graph)
    kept = block.first
    block.first = nn.Sequential(kept)
    with pytest.raises(CallError, match="layer first was replaced by Sequential.*LoRA"):
        binding.run(leaves(arguments))
    block.first = kept
    binding.run(leaves(arguments))
    with_gradient = {**arguments, "hidden": arguments["hidden"].clone().requires_grad_()}
    with pytest.raises(CallError, match=r"a gradient is asked for, by hidden.*torch.no_grad\(\)"):
        binding.run(leaves(with_gradient))
    with torch.no_grad():
        binding.run(leaves(with_gradient))
    with pytest.raises(CallError, match=r"weight first.weight is bfloat16 \[32, 32\].*built for float32"):
        Binding(Block().bfloat16(), graph)
    with pytest.raises(CallError, match="weight first.weight is float32.*strides"):
        other = Block()
        other.first.weight = nn.Parameter(torch.randn(32, 32).T)
        Binding(other, graph)
    with pytest.raises(CallError, match="no layer first"):
        Binding(nn.Module(), graph)
    with pytest.raises(CallError, match="no tensor shift"):
        other = Block()
        other._buffers["shift"] = None
        Binding(other, graph)


def test_arguments_in_another_layout_give_the_same_result() -> None:
    block = Block().eval().requires_grad_(False)
    arguments = {"hidden": torch.randn(1, 24, 32), "context": torch.randn(1, 5, 8)}
    graph = RunsGraph(block, arguments)
    seen: list[list[torch.Tensor]] = []
    run = graph.run
    graph.run = lambda inputs: (seen.append(list(inputs)), run(inputs))[1]  # type: ignore[method-assign]
    other = {
        "hidden": torch.randn(1, 32, 24).transpose(1, 2).copy_(arguments["hidden"]),
        "context": torch.randn(41)[1:].as_strided((1, 5, 8), (77, 8, 1)).copy_(arguments["context"]),
    }
    found = Binding(block, graph).run(leaves(other))
    torch.testing.assert_close(found, block(**arguments))
    for item, tensor in zip(graph.package.inputs, seen[0], strict=True):
        assert tensor.stride() == item.stride
        assert item.part is not None or tensor.data_ptr() % 16 == 0


class ChangesItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return hidden + self.count


def test_modules_that_change_their_state_or_return_objects_are_refused() -> None:
    with pytest.raises(StepError, match="ChangesItself changes"):
        lift(ChangesItself(), {"hidden": torch.zeros(2)})
    with pytest.raises(StepError, match="not dict; call it with return_dict=False"):
        describe_output({"a": torch.zeros(1)}, [])


def test_outputs_are_put_together_as_they_were() -> None:
    result = (torch.zeros(1), [torch.ones(1), None, (torch.ones(2),)])
    tensors: list[torch.Tensor] = []
    template = describe_output(result, tensors)
    assert template == {"tuple": [0, {"list": [1, None, {"tuple": [2]}]}]}
    again = rebuild_output(template, tensors)
    assert type(again) is tuple
    assert type(again[1]) is list
    assert again[1][1] is None
    assert again[1][2][0] is result[1][2][0]


def test_code_that_decides_by_values_is_refused_in_words() -> None:
    class ByValue(nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden if hidden.sum().item() > 0 else -hidden

    with pytest.raises(StepError, match="ByValue can't be exported: .*decides by the values of tensors"):
        lift(ByValue(), {"hidden": torch.ones(2, 2)})


def test_layers_that_read_one_tensor_quantize_it_once() -> None:
    class QueryAndKey(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.query(hidden), self.key(hidden)

    model = QueryAndKey().bfloat16().requires_grad_(False)
    for layer in (model.query, model.key):
        SCHEMES["int8_dynamic"].quantize(layer)
    lifted = lift(model, {"hidden": torch.ones(4, 16, dtype=torch.bfloat16)})
    assert sum("torchao.quantize_affine" in str(node.target) for node in lifted.program.graph.nodes) == 1
