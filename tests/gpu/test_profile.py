"""What a profile sees on a GPU only: kernels by name, and where Python waits for them."""

import gzip
import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import demo_data

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
    assert "other" not in groups or groups["other"].ms < 0.3 * found.recording.kernel_ms * 3
    assert 0 < found.recording.kernel_ms < found.recording.step_ms
    with gzip.open(trace, "rt") as file:
        events = json.load(file)["traceEvents"]
    assert any(event.get("cat") == "kernel" for event in events)


@pytest.mark.parametrize("tuned", [False, True])
def test_the_scheduler_waits_until_it_is_tuned(tmp_path: Path, tuned: bool) -> None:
    steps = [step for step in demo_data()["steps"] if "compile" not in step]
    data = demo_data() | {"steps": [{"tune_scheduler": None}, *steps] if tuned else steps}
    data["name"] = "tuned"
    recipe = tmp_path / "tuned.yaml"
    recipe.write_text(yaml.safe_dump(data))
    found = profile(recipe, num_steps=4)
    print(found.synchronizations)
    assert found.synchronizations is not None
    places = [item for item in found.synchronizations if "schedul" in item.place and item.every_step]
    assert bool(places) is not tuned
    assert all("tune_scheduler" in item.advice for item in places)


def test_eager_kernels_are_grouped_by_what_started_them(cuda_artifact: Path) -> None:
    found = profile(cuda_artifact, num_steps=2, eager=True)
    print(found)
    groups = {group.name for group in found.recording.groups}
    assert {"matmul", "attention", "quantization", "normalization", "copies"} <= groups
