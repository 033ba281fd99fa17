from pathlib import Path

import pytest
import torch
from aot.tiny import make_model
from torch import nn

from qcompile.errors import PlanError, StepError
from qcompile.modules import linears, tensor_bytes
from qcompile.progress import Silent
from qcompile.schemes import SCHEMES
from qcompile.selectors import Layers, Where
from qcompile.steps import Workshop
from qcompile.steps.quantize import Quantize
from steps.test_steps import target

WORKSHOP = Workshop({}, Path(), Silent(), 0.02)
ROWS = {
    "embed": (24,),
    "blocks.0.first": (24,),
    "blocks.0.second": (24,),
    "blocks.1.first": (24,),
    "blocks.1.second": (1,),
}


def quantize(scheme: str = "int8_weight_only", **layers: object) -> Quantize:
    return Quantize(component="model", scheme=scheme, layers=Layers(**layers) if layers else None)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_was_planned_is_what_happens(scheme: str) -> None:
    model = make_model().bfloat16()
    step = quantize(scheme)
    changes = step.changes(target(model))
    step.apply(model, changes, WORKSHOP)
    for change in changes:
        weight = linears(model)[change.module].weight
        assert SCHEMES[scheme].recognise(weight) is (change.action is not None)
        assert tensor_bytes(weight) == change.bytes_after
    assert [change.module for change in changes if change.reason] == ["embed"]
    assert not any(tensor.requires_grad for tensor in model.parameters())


def test_without_layers_the_sensitive_ones_inside_blocks_are_left_alone() -> None:
    model = make_model()
    for block in model.blocks:
        block.norm1_linear = nn.Linear(8, 8)
    reasons = {change.module: change.reason for change in quantize().changes(target(model))}
    assert reasons["embed"] == "outside the repeated blocks"
    assert reasons["blocks.0.norm1_linear"] == "norm, modulation or embedding layer"
    assert reasons["blocks.0.first"] is None


def test_without_layers_what_the_class_keeps_in_high_precision_is_left_alone() -> None:
    model = make_model()
    model._skip_layerwise_casting_patterns = ["second$"]
    reasons = {change.module: change.reason for change in quantize().changes(target(model))}
    hint = "_skip_layerwise_casting_patterns: second$"
    assert reasons["blocks.0.second"] == f"kept in high precision by {type(model).__name__} ({hint})"
    assert reasons["blocks.0.first"] is None
    named = quantize(include=["**.second"]).changes(target(model))
    assert {change.module for change in named if change.action} >= {"blocks.0.second"}


def test_wo_of_t5_stays_in_high_precision() -> None:
    from qcompile.pipeline import meta_pipeline
    from qcompile.source import find_folder

    encoder = meta_pipeline(find_folder("builtin:flux-mini"), torch.bfloat16).text_encoder_2
    changes = quantize().changes(target(encoder))
    assert {change.module.rpartition(".")[2] for change in changes if change.action} == {
        "q",
        "k",
        "v",
        "o",
        "wi_0",
        "wi_1",
    }
    assert {change.reason for change in changes if change.module.endswith(".wo")} == {
        "kept in high precision by T5EncoderModel (_keep_in_fp32_modules: wo)"
    }


def test_no_blocks_no_default() -> None:
    with pytest.raises(PlanError, match="steps.1.quantize.layers: Sequential has no repeated blocks"):
        quantize().changes(target(nn.Sequential(nn.Linear(8, 8))))


def test_a_layer_that_can_not_take_the_scheme_is_an_error_where_it_was_named() -> None:
    model = make_model()
    step = quantize("int8_dynamic", include=("blocks.**",))
    with pytest.raises(
        PlanError, match=r"blocks.1.second sees 1 rows and has 32 to 32 features.*17 rows or more.*min_rows"
    ):
        step.changes(target(model, device="cuda", compiled=True, rows=ROWS))
    step.changes(target(model, device="cpu", compiled=True, rows=ROWS))
    step.changes(target(model, device="cuda", compiled=False, rows=ROWS))
    reasons = {
        c.module: c.reason
        for c in quantize("int8_dynamic").changes(target(model, device="cuda", compiled=True, rows=ROWS))
    }
    assert "17 rows" in reasons["blocks.1.second"]
    assert reasons["blocks.0.first"] is None


def test_a_selection_of_nothing_is_an_error() -> None:
    with pytest.raises(PlanError, match="no linear of model is left to quantize; of 7 linears the first, 'embed'"):
        quantize(include=("**",), where=Where(min_features=10_000)).changes(target(make_model()))
    with pytest.raises(PlanError, match="model has no linear at all|matches no"):
        quantize(include=("**",)).changes(target(nn.Sequential(nn.ReLU())))


def test_one_layer_takes_one_scheme() -> None:
    model = make_model()
    first = quantize("int8_weight_only", include=("blocks.0.**",)).changes(target(model))
    with pytest.raises(PlanError, match=r"steps.1.quantize.layers: blocks.0.first is quantized by steps.1 already"):
        quantize("float8_weight_only", include=("blocks.**",)).changes(target(model, first))
    second = quantize("float8_weight_only", include=("blocks.1.**",)).changes(target(model, first))
    taken = {change.module: change for change in second}["blocks.0.first"]
    assert (taken.action, taken.reason) == (None, "quantized by steps.1")
    assert taken.bytes_before == taken.bytes_after == SCHEMES["int8_weight_only"].stored_bytes(32, 32)


def test_the_census_stops_a_backend_that_skips_a_layer() -> None:
    model = make_model()
    changes = quantize().changes(target(model))
    # torchao leaves weights of other granularities alone without a word; a layer that is no linear stands for it.
    del model.blocks[1].first
    model.blocks[1].first = Stubborn(32, 32)
    with pytest.raises(
        StepError, match=r"1 planned layers were not quantized: blocks.1.first \(still Parameter of torch.float32\)"
    ):
        quantize().apply(model, changes, WORKSHOP)


class Stubborn(nn.Linear):
    """A linear whose weight can't be exchanged, so that a backend's attempt has no effect."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "weight" and "weight" in self._parameters:
            return
        super().__setattr__(name, value)


def test_the_census_stops_a_backend_that_takes_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchao.quantization

    model = make_model()
    real = torchao.quantization.quantize_
    # A backend that ignores the filter; none of today's does, and that is what the census is there to notice.
    monkeypatch.setattr(torchao.quantization, "quantize_", lambda model, config, filter_fn: real(model, config))
    with pytest.raises(StepError, match="1 layers were quantized that the plan leaves alone: embed"):
        quantize().apply(model, quantize().changes(target(model)), WORKSHOP)


def test_torch_is_as_it_was() -> None:
    import torch._inductor.config as inductor

    before = inductor.save_config_portable()
    model = make_model()
    quantize("int8_dynamic").apply(model, quantize("int8_dynamic").changes(target(model)), WORKSHOP)
    assert inductor.save_config_portable() == before
    assert torch.is_grad_enabled()
