"""Autoquant of the embedded pipeline, with its rewriting steps."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import demo_data
from stand_ins import Elsewhere
from torch import nn

from autoquant.fakes import OPTIONS, FakeTimer
from qcompile import original
from qcompile import recipe as recipes
from qcompile.autoquant import resolve
from qcompile.errors import PlanError
from qcompile.planner import plan


def test_only_the_denoiser_is_measured(cache: Path) -> None:
    step = {"quantize": {"component": "text_encoder_2", "scheme": "autoquant"}}
    recipe = recipes.parse(yaml.safe_dump(demo_data() | {"steps": [step, demo_data()["steps"][-1]]}))
    with pytest.raises(PlanError, match="steps.0.quantize.component: .*denoiser .transformer.*text_encoder_2"):
        resolve(recipe, device="cpu", cache=cache, timer=FakeTimer())


def test_a_component_that_is_not_there_is_told_with_its_step(cache: Path) -> None:
    steps = [{"quantize": {"component": name, "scheme": "autoquant"}} for name in ("transformer", "text_encoder_9")]
    steps[1]["quantize"]["scheme"] = "int8_weight_only"
    recipe = recipes.parse(yaml.safe_dump(demo_data() | {"steps": [*reversed(steps), demo_data()["steps"][-1]]}))
    with pytest.raises(PlanError, match="steps.0.quantize.*text_encoder_9"):
        resolve(recipe, device="cpu", cache=cache, timer=FakeTimer())


def test_what_the_plan_would_refuse_is_refused_before_anything_is_measured(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(original, "load_pipeline", lambda *_: pytest.fail("the model was loaded"))
    steps = [{"quantize": {"component": "transformer", "scheme": "autoquant"}}, demo_data()["steps"][-1]]
    recipe = recipes.parse(yaml.safe_dump(demo_data() | {"steps": steps, "call": {"return_dict": False}}))
    with pytest.raises(PlanError, match="call.return_dict"):
        resolve(recipe, device="cpu", cache=cache, timer=FakeTimer())


def test_the_whole_demo_with_its_rewriting_steps(cache: Path) -> None:
    """fuse_qkv runs before layers are chosen, so that fused layers are measured and named."""
    data = demo_data()
    data["steps"][2] = {
        "quantize": {
            "component": "transformer",
            "scheme": "autoquant",
            "layers": {"include": ["transformer_blocks.**"], "exclude": ["**.norm*.**"]},
            "autoquant": OPTIONS,
        }
    }
    resolution = resolve(recipes.parse(yaml.safe_dump(data)), device="cpu", cache=cache, timer=FakeTimer())
    layers = resolution.recipe.data["steps"][2]["quantize"]["layers"]["include"]
    assert "transformer_blocks.0.attn.to_qkv" in layers
    planned = plan(resolution.recipe, device="cpu")
    changed = [change.module for change in planned.changes if change.kind == "quantize" and change.action]
    assert changed == layers


def test_it_reads_no_weight_that_is_elsewhere(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the original is streamed, here too. Steps that rewrite it read weights where they are."""
    step = {"quantize": {"component": "transformer", "scheme": "autoquant", "autoquant": OPTIONS}}
    data = demo_data() | {"steps": [step, demo_data()["steps"][-1]]}
    recipe = recipes.parse(yaml.safe_dump(data))
    expected = resolve(recipe, device="cpu", cache=cache / "expected", timer=FakeTimer())
    made: list[Elsewhere] = []
    finite: list[bool] = []

    def streaming(model: nn.Module, device: torch.device) -> Elsewhere:
        made.append(Elsewhere(model, device))
        return made[-1]

    class Timer(FakeTimer):
        def __call__(self, layer: nn.Linear, *args: Any) -> dict:
            finite.append(bool(layer.weight.isfinite().all()))
            return super().__call__(layer, *args)

    monkeypatch.setattr(original, "Streaming", streaming)
    monkeypatch.setattr(original, "_is_gpu", lambda device: True)
    found = resolve(recipe, device="cpu", cache=cache / "found", timer=Timer())
    assert len(made) == 1
    assert finite
    assert all(finite)
    assert found.measurements == expected.measurements
    assert found.recipe.data == expected.recipe.data


def test_the_model_it_loaded_is_gone_afterwards(cache: Path) -> None:
    """`apply` loads it again, and twice may not fit."""
    before = set(map(id, denoisers()))
    data = demo_data()
    data["steps"][2] = {"quantize": {"component": "transformer", "scheme": "autoquant", "autoquant": OPTIONS}}
    resolve(recipes.parse(yaml.safe_dump(data)), device="cpu", cache=cache, timer=FakeTimer())
    assert [model for model in denoisers() if id(model) not in before] == []


def denoisers() -> list[object]:
    return [item for item in gc.get_objects() if type(item).__name__ == "FluxTransformer2DModel"]


def test_a_live_pipeline_stays_as_it_is(cache: Path) -> None:
    from qcompile.pipeline import load_pipeline
    from qcompile.source import find_folder

    data = demo_data()
    data["steps"][2] = {"quantize": {"component": "transformer", "scheme": "autoquant", "autoquant": OPTIONS}}
    pipeline = load_pipeline(find_folder("builtin:flux-mini", None), torch.bfloat16, torch.device("cpu"))
    before = {name: tensor.data_ptr() for name, tensor in pipeline.transformer.state_dict().items()}
    names = [name for name, _ in pipeline.transformer.named_modules()]
    resolution = resolve(recipes.parse(yaml.safe_dump(data)), pipeline=pipeline, cache=cache, timer=FakeTimer())
    assert [name for name, _ in pipeline.transformer.named_modules()] == names
    assert {name: tensor.data_ptr() for name, tensor in pipeline.transformer.state_dict().items()} == before
    assert "transformer_blocks.0.attn.to_qkv" in resolution.recipe.data["steps"][2]["quantize"]["layers"]["include"]
