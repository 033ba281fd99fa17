import dataclasses
import re
from pathlib import Path

import pydantic
import pytest
import torch
from aot.tiny import make_call, make_model
from schemes.layers import PARAMETERS
from torch import nn

from qcompile.errors import PlanError, StepError
from qcompile.modules import linears, tensor_bytes
from qcompile.progress import Silent
from qcompile.schemes import SCHEMES
from qcompile.selectors import Layers, Where
from qcompile.steps import Workshop
from qcompile.steps.compile import Compile
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


def quantize(scheme: str = "int8_weight_only", options: dict | None = None, **layers: object) -> Quantize:
    return Quantize(component="model", scheme=scheme, layers=Layers(**layers) if layers else None, **(options or {}))


@pytest.mark.parametrize("scheme", PARAMETERS)
def test_what_was_planned_is_what_happens(scheme: str) -> None:
    model = make_model(features=128).bfloat16()
    calls = {"s": {name: tensor.bfloat16() for name, tensor in make_call().items()}}
    step = quantize(scheme)
    changes = step.changes(target(model, rows=dict.fromkeys(linears(model), (24,))))
    step.apply(model, changes, dataclasses.replace(WORKSHOP, calls=calls))
    for change in changes:
        weight = linears(model)[change.module].weight
        assert SCHEMES[scheme].recognise(weight) is (change.action is not None) or scheme == "none"
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
    with pytest.raises(PlanError, match="no linear of model is left to quantize; of 7 linears one, "):
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


def test_several_steps_over_different_layers() -> None:
    model = make_model(features=128).bfloat16()
    steps = (
        quantize("none", include=("blocks.0.first",)),
        quantize("quanto_int4", {"group_size": 64}, include=("blocks.0.second",)),
        quantize("int8_dynamic"),
    )
    done: tuple = ()
    for step in steps:
        changes = step.changes(target(model, done))
        step.apply(model, changes, WORKSHOP)
        done += changes
    kinds = {name: type(layer.weight).__name__ for name, layer in linears(model).items()}
    assert kinds == {
        "embed": "Parameter",
        "blocks.0.first": "Parameter",
        "blocks.0.second": "GroupedInt4Weight",
        **{f"blocks.{index}.{name}": "Int8Tensor" for index in (1, 2) for name in ("first", "second")},
    }
    with pytest.raises(PlanError, match=r"blocks.0.first is quantized by steps.1 already \(none\)"):
        quantize(include=("blocks.0.first",)).changes(target(model, done[:7]))


def test_options_of_a_scheme() -> None:
    model = make_model(features=128)
    with pytest.raises(
        PlanError, match=r"steps.1.quantize.group_size: int8_dynamic can't take 64: it has no group_size"
    ):
        quantize("int8_dynamic", {"group_size": 64}).changes(target(model))
    with pytest.raises(PlanError, match=r"quanto_int4 can't take 48: allowed are 32, 64, 128. Leave it out"):
        quantize("quanto_int4", {"group_size": 48}).changes(target(model))
    with pytest.raises(
        PlanError, match=r"steps.1.quantize.weight_bits: quanto_int4 can't take 4: it has no weight_bits"
    ):
        quantize("quanto_int4", {"weight_bits": 4}).changes(target(model))
    with pytest.raises(pydantic.ValidationError, match="greater than or equal to 1"):
        quantize("quanto_int4", {"group_size": 0})
    sizes = {
        size: quantize("quanto_int4", {"group_size": size}).changes(target(model))[1].bytes_after
        for size in (None, 32, 128)
    }
    assert sizes[None] == sizes[128] == 128 * 64 + 128 * 8
    assert sizes[32] == 128 * 64 + 4 * 128 * 8


@pytest.mark.parametrize(
    ("scheme", "features", "dtype", "message"),
    [
        (
            "int4_weight_only",
            96,
            torch.bfloat16,
            "in features are not a multiple of the group size 128 (group_size: 32 would do)",
        ),
        (
            "quanto_int4",
            96,
            torch.bfloat16,
            "in features are not a multiple of the group size 128 (group_size: 32 would do)",
        ),
        ("float8_row", 24, torch.bfloat16, "features are not multiples of 16"),
        ("float8_tensor", 24, torch.bfloat16, "features are not multiples of 16"),
        ("mxfp8", 48, torch.bfloat16, "features are not multiples of 32"),
        ("float8_row", 128, torch.float32, "float8_row takes weights of bfloat16, not of float32"),
        ("int4_weight_only", 128, torch.float16, "int4_weight_only takes weights of bfloat16, not of float16"),
    ],
)
def test_layers_that_do_not_fit(scheme: str, features: int, dtype: torch.dtype, message: str) -> None:
    model = make_model(features=features).to(dtype)
    with pytest.raises(
        PlanError, match=rf"blocks.0.first has {features} to {features} features, but {re.escape(message)}.*scheme"
    ):
        quantize(scheme, include=("blocks.**",)).changes(target(model, device="cuda"))
    with pytest.raises(PlanError, match="no linear of model is left to quantize"):
        quantize(scheme).changes(target(model, device="cuda"))
    model.blocks[1].first = nn.Linear(256, 256, dtype=torch.bfloat16)
    reasons = {c.module: c.reason for c in quantize(scheme).changes(target(model, device="cuda"))}
    assert reasons["blocks.0.first"] == message
    assert reasons["blocks.1.first"] is None


def test_what_can_not_be_compiled_is_refused_with_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(features=128).bfloat16()
    done = quantize("nvfp4_weight_only").changes(target(model))
    jit, aot = (Compile(component="model", mode=mode, scope="full") for mode in ("jit", "aot"))
    jit.changes(target(model, done))
    with pytest.raises(
        PlanError,
        match=r"steps.1.compile.mode: aot can't compile blocks.0.first, which steps.1 quantizes as nvfp4_weight_only: "
        r"torch.export .*\. Use mode: jit, or choose another scheme\.",
    ):
        aot.changes(target(model, done))
    eager = dataclasses.replace(SCHEMES["nvfp4_weight_only"], why_not_jit="no graph")
    monkeypatch.setitem(SCHEMES, "nvfp4_weight_only", eager)
    for step in (jit, aot):
        with pytest.raises(PlanError, match="Leave the compile step out, or choose another scheme"):
            step.changes(target(model, done))
    aot.changes(target(model, quantize("int8_dynamic").changes(target(model))))


def test_what_can_not_be_stored_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = dataclasses.replace(SCHEMES["int8_dynamic"], why_not_saved="its layout is the processor's")
    monkeypatch.setitem(SCHEMES, "int8_dynamic", odd)
    with pytest.raises(PlanError, match="steps.1.quantize.scheme: weights of int8_dynamic can't be stored: its layout"):
        quantize("int8_dynamic").changes(target(make_model()))


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
    model = make_model()
    scheme = SCHEMES["int8_weight_only"]

    def greedy(layer: nn.Linear, *settings: object) -> torch.Tensor:
        if not scheme.recognise(model.embed.weight):
            model.embed.weight = nn.Parameter(scheme.weight(model.embed, *settings), requires_grad=False)
        return scheme.weight(layer, *settings)

    # A backend that takes layers nobody gave it; none of today's does, and that is what the census is there to notice.
    monkeypatch.setitem(SCHEMES, "int8_weight_only", dataclasses.replace(scheme, weight=greedy))
    with pytest.raises(StepError, match="1 layers were quantized that the plan leaves alone: embed"):
        quantize().apply(model, quantize().changes(target(model)), WORKSHOP)


def test_torch_is_as_it_was() -> None:
    import torch._inductor.config as inductor

    before = inductor.save_config_portable()
    model = make_model()
    quantize("int8_dynamic").apply(model, quantize("int8_dynamic").changes(target(model)), WORKSHOP)
    assert inductor.save_config_portable() == before
    assert torch.is_grad_enabled()
