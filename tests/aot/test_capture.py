import pytest
import torch
from torch import nn

from aot.tiny import make_call, make_model
from qcompile.aot.capture import capture_calls, capture_first_call, count_rows
from qcompile.errors import PlanError
from qcompile.modules import linears, repeated_blocks


class Outer(nn.Module):
    """Calls its model as a pipeline does, and catches what it can."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.ran = False

    def forward(self, call: dict) -> object:
        try:
            result = self.model(call["hidden"], context=call["context"])
        except Exception:  # what a careless pipeline does; the capture has to come through
            return None
        self.ran = True
        return result


def test_the_first_call_is_captured_by_name_and_the_module_does_not_run() -> None:
    outer, call = Outer(make_model()), make_call()
    captured = capture_first_call(outer.model, lambda: outer(call), "transformer")
    assert list(captured) == ["hidden", "context"]
    assert captured["hidden"] is call["hidden"]
    assert not outer.ran
    assert outer(call) is not None  # the hook is gone


def test_a_pipeline_that_never_calls_the_component_is_an_error() -> None:
    with pytest.raises(PlanError, match="never called transformer"):
        capture_first_call(make_model(), lambda: None, "transformer")


def test_calls_of_layers_are_copies_and_only_those_asked_for() -> None:
    model, call = make_model(), make_call()
    seen = capture_calls(repeated_blocks(model), lambda: model(**call), lambda name, spec: name == "blocks.1")
    assert [name for name, _ in seen.arguments] == ["blocks.1"]
    assert {name: len(specs) for name, specs in seen.specs.items()} == {"blocks.0": 1, "blocks.1": 1, "blocks.2": 1}
    (arguments,) = seen.arguments.values()
    assert [len(block._forward_pre_hooks) for block in model.blocks] == [0, 0, 0]
    before = arguments["hidden"].clone()
    model(**call)
    assert torch.equal(arguments["hidden"], before)


def test_rows_are_the_product_of_leading_dimensions_and_the_fewest_count() -> None:
    model = make_model()
    rows = count_rows(dict(linears(model)), lambda: (model(**make_call(24)), model(**make_call(10))))
    assert rows["embed"] == 10
    assert rows["blocks.2.second"] == 10
    assert set(rows) == set(linears(model))


class ByKeyword(nn.Module):
    """What classes of diffusers do: a linear called by keyword, autocast switched off for the tensor's device."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device_type=hidden.device.type, enabled=False):
            return self.linear(input=hidden)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_rows_of_layers_called_by_keyword_without_autocast(device: str) -> None:
    model = ByKeyword().to(device)
    autocast = torch.autocast
    assert count_rows(dict(linears(model)), lambda: model(torch.zeros(2, 3, 4, device=device))) == {"linear": 6}
    assert torch.autocast is autocast
