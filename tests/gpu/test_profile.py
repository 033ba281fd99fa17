"""What a profile sees on a GPU only: kernels by name, and where Python waits for them."""

import gzip
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from conftest import demo_data

from qcompile.opening import load
from qcompile.profiler.kernels import COMPILED
from qcompile.profiler.run import profile
from qcompile.profiler.syncs import synchronizations


def waiting(x: torch.Tensor) -> float:
    return x.sum().item()  # waits


def test_a_planted_synchronization() -> None:
    x = torch.ones(64, device="cuda")
    (found,) = synchronizations(lambda: [waiting(x) for _ in range(4)], num_steps=4)
    line = waiting.__code__.co_firstlineno + 1
    assert (found.place, found.function, found.count) == (f"{__file__}:{line}", "waiting", 4)
    assert found.every_step
    assert found.line == "return x.sum().item()  # waits"
    assert torch.cuda.get_sync_debug_mode() == 0


def test_no_synchronization() -> None:
    x = torch.ones(64, device="cuda")
    assert synchronizations(lambda: x + x, num_steps=4) == ()


def test_packages_are_split_up(cuda_artifact: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json.gz"
    found = profile(cuda_artifact, num_steps=3, trace_file=trace)
    print(found)
    groups = {group.name: group for group in found.recording.groups}
    assert found.mode == "packages"
    assert COMPILED not in groups
    assert {"matmul", "attention", "quantization"} <= groups.keys()
    # Rotary frequencies are computed in float64 outside of the blocks; of the blocks' own kernels none is unknown.
    assert all("at::native" in kernel.name for kernel in groups["other"].costliest)
    assert 0 < found.recording.kernel_ms < found.recording.step_ms
    with gzip.open(trace, "rt") as file:
        events = json.load(file)["traceEvents"]
    assert any(event.get("cat") == "kernel" for event in events)


def test_a_synchronization_planted_in_the_loop(cuda_artifact: Path) -> None:
    pipe = load(cuda_artifact)
    pipe.set_progress_bar_config(disable=True)
    step = pipe.scheduler.step

    def waiting_step(output: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        waiting(output)
        return step(output, *args, **kwargs)

    pipe.scheduler.step = waiting_step
    call = demo_data()["call"] | {"num_inference_steps": 4}
    pipe(**call)
    found = synchronizations(lambda: pipe(**call), num_steps=4)
    (planted,) = [item for item in found if item.every_step]
    assert planted.place == f"{__file__}:{waiting.__code__.co_firstlineno + 1}"
    assert planted.count == 4
    assert any("leave it" in item.advice for item in found)


def test_of_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "eager.yaml"
    steps = [step for step in demo_data()["steps"] if "compile" not in step]
    recipe.write_text(yaml.safe_dump(demo_data() | {"name": "eager", "steps": steps}))
    found = profile(recipe, num_steps=2)
    assert found.synchronizations is not None
    # torchao 0.18 prints a tensor at every int8 product that runs eagerly.
    assert any("torchao" in item.place and "judge int8" in item.advice for item in found.synchronizations)
    assert any("image_processor" in item.place and not item.every_step for item in found.synchronizations)


def test_eager_kernels_are_grouped_by_what_started_them(cuda_artifact: Path) -> None:
    found = profile(cuda_artifact, num_steps=2, eager=True)
    print(found)
    groups = {group.name for group in found.recording.groups}
    assert {"matmul", "attention", "quantization", "normalization", "copies"} <= groups
