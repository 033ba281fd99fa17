import dataclasses
from pathlib import Path

import pytest
import torch
from aot.tiny import make_call, make_model
from schemes.layers import MAX_ERROR, error
from torch import nn

from qcompile.errors import PlanError, StepError
from qcompile.modules import linears
from qcompile.progress import Silent
from qcompile.selectors import Layers
from qcompile.steps import Workshop
from qcompile.steps.calibration import inputs_of
from qcompile.steps.quantize import Quantize
from steps.test_steps import target

STATIC = pytest.mark.parametrize("scheme", ["int8_static", "float8_static"])


def test_peaks_are_those_of_all_calls() -> None:
    model = make_model()
    calls = {"a": make_call(), "b": make_call(seed=2)}
    calls["b"]["hidden"] = calls["b"]["hidden"] * 50
    seen = inputs_of(model, ["embed", "blocks.2.second"], calls)
    assert seen["embed"].peak == float(calls["b"]["hidden"].abs().max())
    assert seen["embed"].dims == 3
    assert seen["blocks.2.second"].peak > 0
    assert inputs_of(model, ["embed"], {"a": calls["a"]})["embed"].peak == float(calls["a"]["hidden"].abs().max())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_linear_may_be_called_by_keyword() -> None:
    class ByKeyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.layer(input=rows)

    seen = inputs_of(ByKeyword(), ["layer"], {"a": {"rows": torch.full((2, 4), -3.0)}})
    assert (seen["layer"].peak, seen["layer"].dims) == (3.0, 2)


def test_what_can_not_be_calibrated_is_named() -> None:
    model = make_model()
    call = make_call()
    model.spare = nn.Linear(4, 4)
    with pytest.raises(StepError, match="spare can't be calibrated: no captured call reaches it. Exclude it"):
        inputs_of(model, ["spare"], {"a": call})
    with pytest.raises(StepError, match="embed can't be calibrated: its inputs are not finite"):
        inputs_of(model, ["embed"], {"a": call | {"hidden": call["hidden"] * float("inf")}})
    with pytest.raises(StepError, match="embed can't be calibrated: its inputs have 2 and 3 dimensions"):
        inputs_of(model, ["embed"], {"a": call, "b": {name: tensor[0] for name, tensor in call.items()}})
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_inputs_of_zeros_take_any_scale() -> None:
    model = make_model()
    call = make_call()
    assert inputs_of(model, ["embed"], {"a": call | {"hidden": torch.zeros(1, 2, 8)}})["embed"].peak == 1.0


@STATIC
def test_scales_come_from_the_captured_calls(scheme: str) -> None:
    model, original = make_model(features=128).bfloat16(), make_model(features=128).bfloat16()
    call = {name: tensor.bfloat16() for name, tensor in make_call().items()}
    step = Quantize(component="model", scheme=scheme)
    changes = step.changes(target(model, rows=dict.fromkeys(linears(model), (24,))))
    step.apply(model, changes, Workshop({"s": call}, Path(), Silent(), 0.02))
    peak = inputs_of(original, ["blocks.0.first"], {"s": call})["blocks.0.first"].peak
    layer = model.blocks[0].first
    scale = layer.weight.act_quant_scale if scheme == "int8_static" else layer.weight.input_scale
    assert float(scale) == pytest.approx(peak / (127 if scheme == "int8_static" else 448))
    hidden = original.embed(call["hidden"])
    assert 0 < error(layer(hidden), original.blocks[0].first(hidden)) < MAX_ERROR[scheme]


@STATIC
def test_layers_that_no_call_reaches_are_left_alone_or_refused(scheme: str) -> None:
    model = make_model(features=128).bfloat16()
    rows = {name: (24,) for name in linears(model) if name != "blocks.1.first"}
    step = Quantize(component="model", scheme=scheme)
    reasons = {change.module: change.reason for change in step.changes(target(model, rows=rows))}
    assert reasons["blocks.1.first"] == f"{scheme} is calibrated, and no captured call reaches the layer"
    assert reasons["blocks.1.second"] is None
    named = step.model_copy(update={"layers": Layers(include=("blocks.**",))})
    with pytest.raises(PlanError, match="blocks.1.first has 128 to 128 features, but .* no captured call reaches"):
        named.changes(target(model, rows=rows))


@STATIC
def test_only_the_denoiser_is_calibrated(scheme: str) -> None:
    step = Quantize(component="vae", scheme=scheme)
    with pytest.raises(PlanError, match=rf"steps.1.quantize.scheme: {scheme} is calibrated on the denoiser's captured"):
        step.changes(dataclasses.replace(target(make_model(), component="vae")))
