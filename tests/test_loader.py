import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import demo_data
from PIL import Image

import qcompile
from qcompile import recipe as recipes
from qcompile.artifact.manifest import Manifest
from qcompile.artifact.read import read_artifact
from qcompile.artifact.write import write_manifest
from qcompile.errors import ArtifactError, CallError, EnvironmentMismatch, MachineError, ModelError
from qcompile.modules import repeated_blocks

PROMPT = demo_data()["call"]["prompt"]
CALL = {name: value for name, value in demo_data()["call"].items() if name != "prompt"}


def paint(pipe: Any, seed: int = 0, **changes: object) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    call = {**CALL, "generator": torch.Generator("cpu").manual_seed(seed), "output_type": "np", **changes}
    return (pipe(PROMPT, **call).images[0] * 255).round().astype(np.uint8)


def changed_environment(source: Path, target: Path, **changes: object) -> Path:
    """A copy of an artifact that says it was built elsewhere; with another device its calls are of that one too."""
    shutil.copytree(source, target)
    data = json.loads((target / "qcompile.json").read_text())
    data["environment"] |= changes
    for call in (*data["calls"].values(), *(package["call"] for package in data["packages"])):
        call["device_type"] = data["environment"]["device"]
    (target / "qcompile.json").unlink()
    write_manifest(target, Manifest.model_validate_json(json.dumps(data)))
    return target


def test_an_artifact_without_packages(eager_artifact: Path) -> None:
    pipe = qcompile.load(eager_artifact)
    assert type(pipe).__name__ == "FluxPipeline"
    assert np.array_equal(paint(pipe), np.asarray(Image.open(eager_artifact / "quantized.png")))
    assert pipe.vae.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(tensor.requires_grad for tensor in pipe.transformer.parameters())


def test_the_declared_size_is_the_default(eager_artifact: Path) -> None:
    pipe = qcompile.load(eager_artifact)
    assert paint(pipe, num_inference_steps=1).shape == (128, 128, 3)


def test_what_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder") as caught:
        qcompile.load(tmp_path / "nothing")
    assert caught.value.fault == "no_folder"
    with pytest.raises(ArtifactError, match=r"has no qcompile\.json"):
        qcompile.load(tmp_path)


def test_a_device_that_is_not_there(eager_artifact: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(MachineError, match="this machine has 0 CUDA devices"):
        qcompile.load(eager_artifact, device="cuda")


def test_a_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="some/artifact is no local folder, and the Hub can't be reached"):
        qcompile.load("some/artifact")


@pytest.mark.slow
class TestCompiled:
    def test_the_image_is_the_one_apply_painted(self, compiled_artifact: Path) -> None:
        painted = np.asarray(Image.open(compiled_artifact / "quantized.png"))
        assert np.array_equal(paint(qcompile.load(compiled_artifact)), painted)

    def test_in_a_process_that_never_saw_the_recipe(self, compiled_artifact: Path, tmp_path: Path) -> None:
        moved = tmp_path / "moved"
        shutil.copytree(compiled_artifact, moved)
        program = (
            "import sys, numpy as np, torch, qcompile\n"
            "pipe = qcompile.load(sys.argv[1]); pipe.set_progress_bar_config(disable=True)\n"
            f"image = pipe({PROMPT!r}, generator=torch.Generator().manual_seed(0), output_type='np', **{CALL!r}).images[0]\n"
            "np.save(sys.argv[2], (image * 255).round().astype(np.uint8))\n"
        )
        target = tmp_path / "image.npy"
        # No compiler, no caches, another folder: the artifact is all there is.
        environment = {"PATH": "/nowhere", "HOME": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
        # Sums are split among threads: another number of them rounds differently.
        environment |= {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
        subprocess.run(
            [sys.executable, "-c", program, str(moved), str(target)],
            check=True,
            env=environment,
            cwd=tmp_path,
            timeout=300,
        )
        assert np.array_equal(np.load(target), np.asarray(Image.open(compiled_artifact / "quantized.png")))

    def test_uncompiled_opens_no_package(self, compiled_artifact: Path, tmp_path: Path) -> None:
        from qcompile.aot.dispatch import CompiledForward

        pipe = qcompile.load(compiled_artifact, compiled=False)
        assert not any(isinstance(vars(block).get("forward"), CompiledForward) for block in pipe.transformer.modules())
        libraries = Path("/proc/self/maps").read_text()
        program = (
            "import sys, qcompile; qcompile.load(sys.argv[1], compiled=sys.argv[2] == 'yes');"
            "print('.wrapper.so' in open('/proc/self/maps').read())"
        )
        for compiled, expected in (("no", "False"), ("yes", "True")):
            result = subprocess.run(
                [sys.executable, "-c", program, str(compiled_artifact), compiled],
                check=True,
                capture_output=True,
                text=True,
            )
            assert result.stdout.strip() == expected
        assert libraries

    def test_calls_without_a_package_are_refused_and_name_the_shapes(self, compiled_artifact: Path) -> None:
        pipe = qcompile.load(compiled_artifact)
        for changes in ({"height": 96, "width": 96}, {"num_images_per_prompt": 2}, {"max_sequence_length": 16}):
            with pytest.raises(CallError, match="Shapes with packages: 128x128_b1"):
                paint(pipe, **changes)
        pipe.to(torch.float32)
        with pytest.raises((CallError, RuntimeError), match="float32|dtype"):
            paint(pipe)

    def test_unknown_shapes_eagerly_where_asked(self, compiled_artifact: Path) -> None:
        eager = qcompile.load(compiled_artifact, compiled=False)
        pipe = qcompile.load(compiled_artifact, on_unknown_shape="eager")
        changes = {"height": 96, "width": 96, "num_inference_steps": 3}
        assert np.array_equal(paint(pipe, **changes), paint(eager, **changes))
        assert np.array_equal(paint(pipe), np.asarray(Image.open(compiled_artifact / "quantized.png")))

    def test_moves_and_new_weights_are_followed(self, compiled_artifact: Path) -> None:
        pipe, eager = (qcompile.load(compiled_artifact, compiled=compiled) for compiled in (True, False))
        pipe.to("cpu")
        before = paint(pipe)
        for one in (pipe, eager):
            block = next(iter(repeated_blocks(one.transformer).values()))
            with torch.no_grad():
                block.attn.norm_q.weight.mul_(1.5)
                block.ff.net[2].bias.add_(0.5)
        after, expected = paint(pipe).astype(int), paint(eager).astype(int)
        assert np.abs(after - before).mean() > 1
        assert np.abs(after - expected).mean() < 4
        state = copy.deepcopy(eager.transformer.state_dict())
        pipe.transformer.load_state_dict(state)

    def test_an_adapter_is_refused_instead_of_ignored(self, compiled_artifact: Path) -> None:
        from peft import LoraConfig

        pipe = qcompile.load(compiled_artifact)
        pipe.transformer.add_adapter(LoraConfig(r=4, target_modules=["to_out.0"]))
        with pytest.raises(CallError, match="was replaced by .* after the artifact was loaded"):
            paint(pipe)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("torch", "2.99.0"), ("diffusers", "0.99"), ("machine", "riscv64"), ("cpu_isa", ["avx9000"])],
    )
    def test_packages_from_elsewhere(self, compiled_artifact: Path, tmp_path: Path, field: str, value: object) -> None:
        other = changed_environment(compiled_artifact, tmp_path / "other", **{field: value})
        with pytest.raises(EnvironmentMismatch, match=f"{field}: built for") as caught:
            qcompile.load(other)
        assert caught.value.fields == (field,)
        assert caught.value.exit_code == 3
        eager = qcompile.load(other, on_mismatch="eager")
        assert np.array_equal(paint(eager), paint(qcompile.load(compiled_artifact, compiled=False)))
        qcompile.load(other, compiled=False)

    @pytest.mark.long
    def test_packages_are_compiled_anew_where_asked(self, compiled_artifact: Path, tmp_path: Path) -> None:
        changes = {} if torch.cuda.is_available() else {"device": "cuda", "capability": "9.0", "gpu": "NVIDIA H200"}
        other = changed_environment(compiled_artifact, tmp_path / "other", torch="2.99.0", **changes)
        pipe = qcompile.load(other, on_mismatch="recompile")
        assert np.array_equal(paint(pipe), np.asarray(Image.open(compiled_artifact / "quantized.png")))
        assert read_artifact(other).manifest.environment.torch == "2.99.0"  # the artifact is as it was

    def test_a_package_whose_weights_are_not_those_here(self, compiled_artifact: Path) -> None:
        pipe = qcompile.load(compiled_artifact)
        block = pipe.transformer.transformer_blocks[0]
        block.ff.net[2].bias = torch.nn.Parameter(torch.zeros(7, dtype=torch.bfloat16), requires_grad=False)
        with pytest.raises(CallError, match=r"weight ff.net.2.bias is bfloat16 \[7\]"):
            paint(pipe)


@pytest.mark.long
def test_the_whole_denoiser_as_one_graph_for_shapes_that_share_code(tmp_path: Path) -> None:
    steps = [step for step in demo_data()["steps"] if "compile" not in step]
    steps.append({"compile": {"component": "transformer", "mode": "aot", "scope": "full"}})
    shapes = [{"height": 96, "width": 160}, {"height": 160, "width": 96}]
    recipe = recipes.parse(yaml.safe_dump(demo_data() | {"steps": steps, "shapes": shapes}))
    artifact = qcompile.apply(recipe, out=tmp_path / "full")
    (package,) = artifact.manifest.packages
    assert (package.layers, package.shapes) == (("",), ("96x160_b1", "160x96_b1"))
    assert max(artifact.manifest.verification.compiled_relative_error.values()) < 0.02
    pipe = qcompile.load(tmp_path / "full")
    assert np.array_equal(
        paint(pipe, height=96, width=160), np.asarray(Image.open(tmp_path / "full" / "quantized.png"))
    )
    paint(pipe, height=160, width=96)
    with pytest.raises(CallError, match="Shapes with packages: 96x160_b1, 160x96_b1"):
        paint(pipe, height=128, width=128)


@pytest.mark.slow
def test_packages_for_a_gpu_on_a_machine_without_one(compiled_artifact: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    other = changed_environment(
        compiled_artifact, tmp_path / "other", device="cuda", capability="9.0", gpu="NVIDIA H200"
    )
    with pytest.raises(EnvironmentMismatch, match="device: built for cuda, here cpu") as caught:
        qcompile.load(other)
    assert "device" in caught.value.fields
    assert paint(qcompile.load(other, on_mismatch="eager")).shape == (128, 128, 3)
    with pytest.raises(MachineError, match="this machine has 0 CUDA devices"):
        qcompile.load(other, compiled=False)


@pytest.mark.slow
def test_a_command_leaves_no_unpacked_package_behind(compiled_artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    words = ["generate", compiled_artifact, "--prompt", "a red circle", "--steps", "1", "--out", tmp_path / "image.png"]
    subprocess.run(
        [sys.executable, "-m", "qcompile.cli", *map(str, words)],
        env=os.environ | {"TMPDIR": str(folder)},
        check=True,
        capture_output=True,
    )
    assert list(folder.iterdir()) == []
