import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file

import qcompile
from qcompile.artifact.contents import check_contents
from qcompile.artifact.read import read_artifact
from qcompile.artifact.write import write_manifest
from qcompile.errors import ArtifactError

GOLDEN = ROOT / "serialization" / "golden" / "pipeline-int8_dynamic"
ENCODER = "text_encoder"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(GOLDEN, tmp_path / "artifact")


def in_shards(folder: Path, file: str) -> None:
    """Replace the text encoder's weights by a list of shards that names `file` for all of them."""
    weights = folder / ENCODER / "model.safetensors"
    names = list(load_file(weights))
    weights.unlink()
    put_index(folder, dict.fromkeys(names, file))


def put_index(folder: Path, shards: dict[str, str]) -> None:
    manifest = read_artifact(GOLDEN).manifest
    index = folder / ENCODER / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    write_manifest(folder, manifest)


def test_weights_outside_of_the_artifact_are_not_loaded(artifact: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copy(GOLDEN / ENCODER / "model.safetensors", tmp_path / "model.safetensors")
    for file in (str(elsewhere), "../../model.safetensors"):
        shutil.copy(elsewhere, artifact / ENCODER)
        in_shards(artifact, file)
        with pytest.raises(
            ArtifactError, match=r"index\.json: weight_map names the file '.*model\.safetensors'"
        ) as caught:
            qcompile.load(artifact, device="cpu")
        assert caught.value.fault == "escaping_path"


def test_shards_beside_their_list_are_loaded(artifact: Path) -> None:
    weights = artifact / ENCODER / "model.safetensors"
    tensors = load_file(weights)
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    shards = {name: (first, second)[index % 2] for index, name in enumerate(tensors)}
    for file in (first, second):
        save_file(
            {name: tensors[name] for name in tensors if shards[name] == file}, weights.with_name(file), {"format": "pt"}
        )
    weights.unlink()
    put_index(artifact, shards)
    loaded = qcompile.load(artifact, device="cpu").text_encoder.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "file",
    [
        "text_encoder/weights.bin",
        "vae/diffusion_pytorch_model.ckpt",
        "tokenizer/vocab.pkl",
        "text_encoder/adapter_config.json",
        "vae/model_index.json",
        "vae/vae.py",
        "vae/diffusion_pytorch_model.bin.index.json",
    ],
)
def test_a_file_that_no_artifact_has(file: str) -> None:
    with pytest.raises(ArtifactError, match=f"/somewhere/{file}: an artifact's weights are safetensors") as caught:
        check_contents(Path("/somewhere"), ["recipe.yaml", file])
    assert caught.value.fault == "foreign_code"


@pytest.mark.parametrize("file", ["tokenizer/spiece.model", "tokenizer/merges.txt", "compiled/unet/a/Block.pt2"])
def test_files_that_artifacts_have(file: str) -> None:
    check_contents(Path("/somewhere"), [file, "model_index.json", "tokenizer/chat_template.jinja"])
