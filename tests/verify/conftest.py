"""Artifacts of few steps, so that painting takes little time."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import demo_data, eager_steps
from safetensors import safe_open
from safetensors.torch import save_file

import qcompile
from qcompile import recipe as recipes
from qcompile.artifact.manifest import Manifest
from qcompile.artifact.write import write_manifest

CALL = {"prompt": "a red circle on a blue background", "num_inference_steps": 3, "max_sequence_length": 32}


def short(**changes: object) -> dict:
    """The demo recipe of three steps, without packages, as plain data."""
    return demo_data() | {"steps": eager_steps(), "call": CALL, "verify": {}} | changes


def make(data: dict, out: Path) -> Path:
    """Apply a recipe that is plain data."""
    return qcompile.apply(recipes.parse(yaml.safe_dump(data), "test.yaml"), out=out).folder


@pytest.fixture(scope="package")
def small_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps, no packages. Read only."""
    return make(short(), tmp_path_factory.mktemp("artifacts") / "small")


@pytest.fixture
def spoil(small_artifact: Path, tmp_path: Path) -> Callable[[str, Callable[[torch.Tensor], None]], Path]:
    """A copy of that artifact with some tensors changed, and digests that are right: `spoil("vae", {name: change})`."""

    def change_one(component: str, changes: dict[str, Callable[[torch.Tensor], object]]) -> Path:
        target = tmp_path / "spoilt"
        shutil.copytree(small_artifact, target)
        (path,) = (target / component).glob("*.safetensors")
        with safe_open(path, "pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
        for name, change in changes.items():
            change(tensors[name])
        save_file(tensors, path, metadata=metadata)
        data = json.loads((target / "qcompile.json").read_text())
        (target / "qcompile.json").unlink()
        write_manifest(target, Manifest.model_validate_json(json.dumps(data)))
        return target

    return change_one
