"""The recipes that name no architecture, as they lie in recipes/, on models of several."""

from pathlib import Path

import pytest
from conftest import RECIPES

import qcompile
from breadth.case import arguments, build
from breadth.catalogue import CASES
from qcompile import recipe as recipes

GENERIC = sorted(path.stem for path in RECIPES.glob("generic_*.yaml"))
CLASSES = ("FluxTransformer2DModel", "SD3Transformer2DModel", "UNet2DConditionModel", "WanTransformer3DModel")


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("name", GENERIC)
def test_plans_any_denoiser(name: str, class_name: str, tmp_path: Path) -> None:
    case = CASES[class_name]
    model = build(class_name, case, tmp_path)
    plan = qcompile.plan(recipes.read(RECIPES / f"{name}.yaml"), model=model, example_inputs=[arguments(case)])
    assert plan.denoiser == ("unet" if "UNet" in class_name else "transformer")
    quantized = [change.module for change in plan.changes if change.kind == "quantize" and change.action]
    assert quantized
    assert not any("norm" in name or "embed" in name for name in quantized)
    assert any(change.kind == "compile" for change in plan.changes)


@pytest.mark.long
@pytest.mark.parametrize("name", GENERIC)
def test_applies_to_a_pipeline(name: str, tmp_path: Path) -> None:
    overrides = ["call.num_inference_steps=2", "call.max_sequence_length=32", "shapes=[{height: 128, width: 128}]"]
    recipe = recipes.read(RECIPES / f"{name}.yaml", overrides, model="builtin:flux-mini")
    artifact = qcompile.apply(recipe, out=tmp_path / name)
    assert artifact.manifest.packages
    assert "component: transformer" in artifact.recipe_text
    pipe = qcompile.load(tmp_path / name)
    pipe.set_progress_bar_config(disable=True)
    pipe("a red circle on a white background", num_inference_steps=1, max_sequence_length=32)
