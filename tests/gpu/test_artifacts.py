"""From recipe to pipeline on a GPU, with the embedded model."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import RECIPES, demo_data
from PIL import Image

import qcompile
from qcompile import recipe as recipes
from qcompile.artifact.read import read_artifact
from qcompile.errors import CallError

PROMPT = demo_data()["call"]["prompt"]
CALL = {name: value for name, value in demo_data()["call"].items() if name != "prompt"}


def paint(pipe: Any, **changes: object) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    call = {**CALL, "generator": torch.Generator("cpu").manual_seed(0), "output_type": "np", **changes}
    return (pipe(PROMPT, **call).images[0] * 255).round().astype(np.uint8)


def painted(artifact: Path) -> np.ndarray:
    return np.asarray(Image.open(artifact / "quantized.png"))


def test_the_image_is_the_one_apply_painted(cuda_artifact: Path) -> None:
    pipe = qcompile.load(cuda_artifact)
    assert next(pipe.transformer.parameters()).device.type == "cuda"
    assert np.array_equal(paint(pipe), painted(cuda_artifact))
    manifest = read_artifact(cuda_artifact).manifest
    assert manifest.environment.device == "cuda"
    assert max(manifest.verification.compiled_relative_error.values()) < 0.02


def test_compiled_and_eager_agree(cuda_artifact: Path) -> None:
    compiled, eager = (qcompile.load(cuda_artifact, compiled=flag) for flag in (True, False))
    assert np.abs(paint(compiled).astype(int) - paint(eager)).mean() < 4


def test_moves_away_and_back(cuda_artifact: Path) -> None:
    pipe = qcompile.load(cuda_artifact)
    pipe.to("cpu")
    with pytest.raises(CallError, match="cpu"):
        paint(pipe)
    pipe.to("cuda")
    assert np.array_equal(paint(pipe), painted(cuda_artifact))


def test_offloading_of_whole_components(cuda_artifact: Path) -> None:
    pipe = qcompile.load(cuda_artifact)
    pipe.enable_model_cpu_offload()
    assert np.array_equal(paint(pipe), painted(cuda_artifact))
    assert next(pipe.transformer.parameters()).device.type == "cpu"
    assert np.array_equal(paint(pipe), painted(cuda_artifact))


def test_shapes_without_a_package_are_refused(cuda_artifact: Path) -> None:
    pipe = qcompile.load(cuda_artifact)
    with pytest.raises(CallError, match="Shapes with packages: 128x128_b1"):
        paint(pipe, height=96, width=96)


def test_on_a_machine_without_a_gpu(cuda_artifact: Path) -> None:
    program = (
        "import sys, qcompile\n"
        "try:\n    qcompile.load(sys.argv[1])\n"
        "except qcompile.errors.EnvironmentMismatch as error:\n    print('refused', error.fields)\n"
        "pipe = qcompile.load(sys.argv[1], on_mismatch='eager')\n"
        "print(pipe.device, next(pipe.transformer.parameters()).device)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(cuda_artifact)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    refused, device = result.stdout.strip().splitlines()[-2:]
    assert refused.startswith("refused")
    assert "'device'" in refused
    assert device == "cpu cpu"


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("flux_mini_*.yaml")))
def test_every_recipe_of_the_embedded_model(name: str, tmp_path: Path) -> None:
    if name in ("flux_mini_int8", "flux_mini_autoquant"):
        pytest.skip("other tests use it, or its like")
    recipe = recipes.read(RECIPES / f"{name}.yaml")
    artifact = qcompile.apply(recipe, out=tmp_path / name)
    print(name, artifact.manifest.verification)
    assert np.array_equal(paint(qcompile.load(tmp_path / name)), painted(tmp_path / name))


def test_the_whole_denoiser_as_one_graph(tmp_path: Path) -> None:
    data = copy.deepcopy(demo_data())
    data["steps"][-1]["compile"]["scope"] = "full"
    artifact = qcompile.apply(recipes.parse(yaml.safe_dump(data)), out=tmp_path / "full")
    assert max(artifact.manifest.verification.compiled_relative_error.values()) < 0.02
    assert np.array_equal(paint(qcompile.load(tmp_path / "full")), painted(tmp_path / "full"))
