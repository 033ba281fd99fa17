import copy
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from torch import nn

import qcompile
from qcompile.errors import PlanError
from qcompile.steps.tune_scheduler import TuneScheduler
from steps.test_steps import target


def trajectory(scheduler, steps: int = 4) -> torch.Tensor:
    scheduler.set_timesteps(steps)
    sample = torch.linspace(-1, 1, 8)
    for timestep in scheduler.timesteps:
        sample = scheduler.step(sample * 0.5, timestep, sample).prev_sample
    return sample


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler])
def test_the_begin_is_known_and_the_numbers_stay(kind: type) -> None:
    plain, tuned = kind(), kind()
    step = TuneScheduler()
    (change,) = step.changes(target(nn.Linear(2, 2), pipeline=SimpleNamespace(scheduler=tuned)))
    assert change.action == f"{kind.__name__}: noise levels on the CPU"
    step.prepare(SimpleNamespace(scheduler=tuned))
    assert torch.equal(trajectory(tuned), trajectory(plain))
    tuned.set_timesteps(3)
    assert tuned.begin_index == 0
    assert tuned.sigmas.device.type == "cpu"
    assert len(copy.deepcopy(tuned).timesteps) == 3


def test_one_without_noise_levels_is_refused() -> None:
    with pytest.raises(PlanError, match="DDIMScheduler keeps no table of noise levels"):
        TuneScheduler().changes(target(nn.Linear(2, 2), pipeline=SimpleNamespace(scheduler=DDIMScheduler())))


def test_a_bare_model_has_no_scheduler(make_recipe) -> None:
    recipe = make_recipe(steps=[{"tune_scheduler": {}}, {"channels_last": {"component": "unet"}}])
    with pytest.raises(PlanError, match="steps.0.tune_scheduler: this step needs a pipeline"):
        qcompile.plan(
            recipe,
            model=tiny_unet(),
            example_inputs=[{"sample": torch.zeros(1, 3, 8, 8), "timestep": torch.tensor([1])}],
        )


def tiny_unet() -> nn.Module:
    from diffusers import UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}
    return UNet2DModel(8, 3, 3, norm_num_groups=4, layers_per_block=1, **blocks)


def test_planning_leaves_a_tuned_pipeline_tuned(make_recipe) -> None:
    from qcompile.pipeline import load_pipeline
    from qcompile.source import find_folder

    pipeline = load_pipeline(find_folder("builtin:flux-mini"), torch.bfloat16, torch.device("cpu"))
    TuneScheduler().prepare(pipeline)
    tuned = pipeline.scheduler.set_timesteps
    qcompile.plan(make_recipe(steps=[{"fuse_qkv": {"component": "transformer"}}]), pipeline=pipeline)
    assert pipeline.scheduler.set_timesteps is tuned
