"""Steps whose point is the GPU."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import demo_data
from gallery.cases import FAMILIES

import qcompile
from qcompile.pipeline import load_pipeline
from qcompile.steps.tune_scheduler import TuneScheduler

CALL = {name: value for name, value in demo_data()["call"].items() if name != "prompt"}


def synchronizations(pipeline: Any, first: Any, **call: Any) -> list[str]:
    """What torch says of every wait for the GPU from the first call of the method `first` to the last denoising step."""
    pipeline.set_progress_bar_config(disable=True)
    last = call["num_inference_steps"] - 1

    def watch(_: Any, index: int, timestep: Any, tensors: dict) -> dict:
        torch.cuda.set_sync_debug_mode("warn" if index < last else "default")
        return tensors

    def begins(*args: Any, **kwargs: Any) -> Any:
        torch.cuda.set_sync_debug_mode("warn")
        return first(*args, **kwargs)

    with warnings.catch_warnings(record=True) as caught, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(first.__self__, first.__name__, begins)
        try:
            pipeline("a red circle on a white background", callback_on_step_end=watch, output_type="latent", **call)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{item.filename}:{item.lineno}" for item in caught if "called a synchronizing" in str(item.message)]


def test_no_step_waits_for_the_gpu_with_a_tuned_scheduler(make_recipe, tmp_path: Path) -> None:
    steps = [{"tune_scheduler": {}}, {"quantize": {"component": "transformer", "scheme": "int8_weight_only"}}]
    qcompile.apply(make_recipe(steps=steps), out=tmp_path / "tuned")
    pipe = qcompile.load(tmp_path / "tuned")
    assert synchronizations(pipe, pipe.transformer.forward, **CALL) == []


def test_a_scheduler_waits_until_it_is_tuned(tmp_path: Path) -> None:
    # LTX's pipeline does not tell the scheduler where it begins; those of FLUX and SDXL do so themselves.
    pipe = load_pipeline(FAMILIES["ltx"].write_twin(tmp_path / "ltx"), torch.bfloat16, torch.device("cuda"))
    call = {"num_inference_steps": 4, "height": 64, "width": 64, "num_frames": 9}

    def waits() -> list[str]:
        return [place for place in synchronizations(pipe, pipe.transformer.forward, **call) if "scheduling_" in place]

    untuned = waits()
    print("untuned:", untuned)
    assert untuned
    TuneScheduler().prepare(pipe)
    assert waits() == []


def test_steps_of_a_compiled_artifact_wait_for_nothing(cuda_artifact: Path) -> None:
    pipe = qcompile.load(cuda_artifact)
    assert synchronizations(pipe, pipe.transformer.forward, **CALL) == []


@pytest.mark.parametrize("backend", ["cudnn", "efficient", "math"])
def test_attention_backends(backend: str, make_recipe, tmp_path: Path) -> None:
    steps = [{"attention": {"component": "transformer", "backend": backend}}]
    artifact = qcompile.apply(make_recipe(steps=steps), out=tmp_path / backend)
    assert max(artifact.manifest.verification.quantized_relative_error.values()) < 0.02


def test_a_decoder_ahead_of_time_with_the_longest_search(make_recipe, tmp_path: Path) -> None:
    compiled = {"mode": "aot", "scope": "full", "tuning": "max-autotune-no-cudagraphs"}
    steps = [
        {"swap_conv1x1": {"component": "vae"}},
        {"inductor": {"component": "vae", "options": {"conv_1x1_as_mm": True}}},
        {"compile": {"component": "vae", "method": "decode", **compiled}},
    ]
    artifact = qcompile.apply(make_recipe(steps=steps), out=tmp_path / "vae")
    (package,) = artifact.manifest.packages
    assert package.inductor["max_autotune"] is True
    pipe = qcompile.load(tmp_path / "vae")
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a red circle on a white background", output_type="np", **CALL).images[0]
    assert np.isfinite(image).all()


def test_arms_of_the_benchmark(cuda_artifact: Path) -> None:
    from qcompile.bench.run import Options, bench

    record, _ = bench(cuda_artifact, Options(rounds=5, images=1, cold_starts=0), "test")
    assert record.absent == {}
    for arm in ("eager", "jit_bf16", "eager_quantized", "jit", "aot", "aot_graphs"):
        print(arm, record.find(arm, "step"))
        assert record.find(arm, "step") is not None
    assert record.find("machine", "product_float8").value > 100
