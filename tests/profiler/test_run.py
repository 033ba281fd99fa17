"""Whole profiles: of an artifact, of a recipe, and of their originals."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import DEMO, demo_data, eager_steps

from qcompile.errors import ArtifactError, MachineError, ModelError, PlanError
from qcompile.opening import load
from qcompile.profiler.arms import arm_of_recipe
from qcompile.profiler.kernels import COMPILED, PACKAGE_MARK
from qcompile.profiler.record import check_trace, packages_marked, record
from qcompile.profiler.run import HIDDEN, NOT_COMPILED, PACKAGES, Profile, profile
from qcompile.progress import Silent
from qcompile.recipe import Recipe


def shares(found: Profile) -> dict[str, float]:
    groups = {group.name: group.ms for group in found.recording.groups}
    return {name: ms / sum(groups.values()) for name, ms in groups.items()}


def events_of(trace: Path) -> list[dict]:
    opened = gzip.open if trace.suffix == ".gz" else open
    with opened(trace, "rt") as file:
        return json.load(file)["traceEvents"]


def test_an_artifact_without_packages(eager_artifact: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    found = profile(eager_artifact, num_steps=2, trace_file=trace, device="cpu")
    assert (found.mode, found.device, found.label) == ("eager", "cpu", "flux_mini_int8")
    assert shares(found)["quantization"] > 0.05
    assert {"matmul", "attention", "normalization"} <= shares(found).keys()
    names = {kernel.name for group in found.recording.groups for kernel in group.costliest}
    assert "aten::_int_mm" in names
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in names
    assert found.recording.kernel_ms + found.outside_ms == pytest.approx(found.recording.profiled_step_ms, rel=0.01)
    assert found.tracing is None
    assert found.synchronizations is None
    assert NOT_COMPILED in found.notes
    assert any("no GPU" in note for note in found.notes)
    events = events_of(trace)
    assert sum(event.get("name") == "aten::_int_mm" for event in events) > 10
    assert list(tmp_path.iterdir()) == [trace]


@pytest.mark.parametrize(
    ("steps", "eager", "whole"),
    [
        ([{"compile": {"component": "transformer", "mode": "jit", "scope": "full"}}], False, True),
        ([{"compile": {"component": "transformer", "mode": "jit", "scope": "full"}}], True, False),
        ([{"compile": {"component": "transformer", "mode": "jit", "scope": "blocks"}}], False, False),
    ],
)
def test_whether_the_denoiser_is_one_graph(
    steps: list[dict], eager: bool, whole: bool, make_recipe: Callable[..., Recipe]
) -> None:
    assert arm_of_recipe(make_recipe(steps=steps), False, eager, "cpu", Silent()).whole is whole


def test_the_original(eager_artifact: Path) -> None:
    found = profile(eager_artifact, num_steps=1, original=True, device="cpu")
    assert found.label == "builtin:flux-mini, bfloat16"
    assert "quantization" not in shares(found)


def test_a_recipe_is_carried_out(make_recipe: Callable[..., Recipe]) -> None:
    arm = arm_of_recipe(make_recipe(steps=eager_steps()), False, False, "cpu", Silent())
    assert arm.mode == "eager"
    assert "fused_projections" in str(vars(arm.denoiser)) or any(
        "to_qkv" in name for name, _ in arm.denoiser.named_modules()
    )
    recorded = record(arm.step(), 1, arm.device)
    assert any(kernel.name == "aten::_int_mm" for group in recorded.groups for kernel in group.costliest)


def test_a_recipe_that_compiles(make_recipe: Callable[..., Recipe]) -> None:
    arm = arm_of_recipe(make_recipe(), False, False, "cpu", Silent())
    (compiled,) = arm.compiled
    assert arm.mode == "torch.compile"
    assert {type(module).__name__ for module in compiled.targets.values()} == {
        "FluxTransformerBlock",
        "FluxSingleTransformerBlock",
    }
    assert arm_of_recipe(make_recipe(), False, True, "cpu", Silent()).compiled == ()


@pytest.mark.parametrize("name", ["trace.txt", "trace", "trace.gz"])
def test_names_that_are_no_traces(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match=r"NAME\.json"):
        check_trace(tmp_path / name, overwrite=True)


def test_an_interrupted_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: object, path: str) -> None:
        Path(path).write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.profiler.profile, "export_chrome_trace", half)
    with pytest.raises(KeyboardInterrupt):
        record(lambda: torch.ones(3) + 1, 1, torch.device("cpu"), tmp_path / "trace.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
@pytest.mark.parametrize("content", [b"", b'{"traceEvents": [{"name": "ha', None])
def test_a_trace_that_is_not_whole_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None
) -> None:
    """torch writes in C++ and says nothing of a full disk."""

    def cut(self: object, path: str) -> None:
        if content is not None:
            Path(path).write_bytes(gzip.compress(content) if path.endswith(".gz") else content)

    monkeypatch.setattr(torch.profiler.profile, "export_chrome_trace", cut)
    with pytest.raises(
        MachineError, match=f"--trace .*{name}: can't be written .torch wrote no whole trace; is the disk"
    ):
        record(lambda: torch.ones(3) + 1, 1, torch.device("cpu"), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_another_call_for_the_recipe_alone(eager_artifact: Path) -> None:
    with pytest.raises(ModelError, match="Name a recipe file"):
        profile(eager_artifact, overrides=["version=2"])


@pytest.mark.slow
def test_an_artifact_with_packages(compiled_artifact: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json.gz"
    found = profile(compiled_artifact, num_steps=2, trace_file=trace)
    assert found.mode == "packages"
    assert shares(found)[COMPILED] > 0.5
    assert found.recording.groups[0].name == COMPILED
    assert {kernel.name for kernel in found.recording.groups[0].costliest} == {
        f"{PACKAGE_MARK}FluxTransformerBlock",
        f"{PACKAGE_MARK}FluxSingleTransformerBlock",
    }
    assert {PACKAGES, HIDDEN} <= set(found.notes)
    assert any(event.get("name", "").startswith(PACKAGE_MARK) for event in events_of(trace))


@pytest.mark.slow
def test_marks_are_taken_off(compiled_artifact: Path) -> None:
    denoiser = load(compiled_artifact).transformer
    before = {name: vars(layer).get("forward") for name, layer in denoiser.named_modules()}
    with packages_marked(denoiser) as count:
        assert count == sum(forward is not None for forward in before.values()) > 0
    assert {name: vars(layer).get("forward") for name, layer in denoiser.named_modules()} == before


@pytest.mark.long
def test_a_recipe_under_torch_compile(tmp_path: Path) -> None:
    """The kernels of generated code have names; two shapes are two compilations."""
    path = tmp_path / "two.yaml"
    shapes = [{"height": 128, "width": 128}, {"height": 64, "width": 64}]
    path.write_text(yaml.safe_dump(demo_data() | {"name": "two", "shapes": shapes}))
    found = profile(path, num_steps=1, device="cpu")
    assert found.mode == "torch.compile"
    assert found.tracing is not None
    assert found.tracing.breaks == ()
    grown = [item for item in found.tracing.recompilations if "size mismatch" in item.guard]
    assert {item.function for item in grown} == {"FluxTransformerBlock.forward", "FluxSingleTransformerBlock.forward"}
    assert {item.shape for item in grown} == {"64x64_b1"}
    quantization = next(group for group in found.recording.groups if group.name == "quantization")
    assert all("cpp_fused" in kernel.name for kernel in quantization.costliest)


def test_a_recipe_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no component"):
        profile(DEMO, overrides=["steps.2.quantize.component=unet"])
