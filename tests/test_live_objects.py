"""Where a pipeline is that `apply` gets, and where somebody says it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from conftest import eager_steps

import qcompile
from qcompile import runner
from qcompile.errors import MachineError, PlanError
from qcompile.pipeline import load_pipeline
from qcompile.recipe import Recipe
from qcompile.source import find_folder

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def pipeline():
    return load_pipeline(find_folder("builtin:flux-mini"), torch.bfloat16, torch.device("cpu"))


def test_a_live_object_is_used_where_it_is(pipeline: object, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    def apply(**options: object) -> None:
        qcompile.apply(make_recipe(steps=eager_steps()), pipeline=pipeline, out=tmp_path / "live", **options)

    if not torch.cuda.is_available():
        with pytest.raises(MachineError, match="has 0 CUDA devices"):
            apply(device="cuda")
    add_hook_to_module(pipeline.transformer.proj_out, ModelHook())
    with pytest.raises(PlanError, match="pipeline: accelerate moves its parts when they run"):
        apply()
    remove_hook_from_module(pipeline.transformer.proj_out)
    pipeline.vae.to("meta")
    with pytest.raises(PlanError, match="its weights are on cpu and meta. Move all of it to one device"):
        apply()
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_not_that_of_the_live_object(
    pipeline: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    real = runner.resolve_device
    there = torch.device("cuda", 1)
    monkeypatch.setattr(runner, "resolve_device", lambda name: there if name == "cuda:1" else real(name))
    with pytest.raises(PlanError, match=r"device: cuda:1 is not where the pipeline is, cpu. Move it there first"):
        qcompile.apply(make_recipe(steps=eager_steps()), pipeline=pipeline, out=tmp_path / "live", device="cuda:1")
    assert not list(tmp_path.iterdir())
