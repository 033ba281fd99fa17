import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file

import qcompile
from qcompile.artifact.contents import check_contents
from qcompile.artifact.manifest import MANIFEST, to_bytes
from qcompile.artifact.read import read_artifact
from qcompile.artifact.write import file_records, write_manifest
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
    # As an author would sign it: qcompile's own writer refuses it.
    complete = manifest.model_copy(update={"files": file_records(folder)})
    (folder / MANIFEST).write_bytes(to_bytes(complete))


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


def with_settings(folder: Path, file: str, **settings: object) -> None:
    """Add settings to a configuration."""
    content = json.loads((folder / file).read_bytes()) | settings
    (folder / file).write_text(json.dumps(content))


def refused(folder: Path, file: str) -> str | None:
    """What a reader says of it."""
    try:
        check_contents(folder, [file])
    except ArtifactError as error:
        assert error.fault == "foreign_code"
        return str(error)
    return None


KERNEL = "kernels-community/flash-attn"


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": KERNEL},
        {"_attn_implementation": KERNEL},
        {"_attn_implementation": "flash_attention_2"},  # where flash-attn is not installed, a kernel takes its place
        {"attn_implementation": {"": "sdpa", "text_config": KERNEL}},
        {"text_config": {"attn_implementation": KERNEL}},
        {"parts": [{"_attn_implementation_internal": KERNEL}]},
        {"experts_implementation": "sonicmoe"},
        {"auto_map": {"AutoModel": "evil.E"}},
        {"audio_tokenizer": {"audio_tokenizer_class": "DacModel", "audio_tokenizer_name_or_path": "someone/else"}},
        {"audio_tokenizer_name_or_path": "/somewhere/else"},
        {"configuration_files": ["../config.1.0.0.json"]},
        {"quantization_config": {"quant_method": "nosuch"}},
        {"quantization_config": {"load_in_8bit": True}},
        {"quantization_config": "fp8"},
    ],
)
def test_a_setting_that_leads_to_code_or_files_elsewhere(artifact: Path, settings: dict) -> None:
    file = f"{ENCODER}/config.json"
    with_settings(artifact, file, **settings)
    found = refused(artifact, file)
    assert found is not None
    key = next(iter(settings))
    assert f"{ENCODER}/config.json: " in found
    assert (key if key not in ("text_config", "parts") else "attn_implementation") in found


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "sdpa"},
        {"_attn_implementation": None},
        {"_attn_implementation": {"": "sdpa", "text_config": "eager"}},
        {"_attn_implementation_autoset": True},
        {"auto_map": {}},
        {"quantization_config": None},
        {"quantization_config": {"quant_method": "torchao"}},
    ],
)
def test_a_setting_that_leads_nowhere(artifact: Path, settings: dict) -> None:
    with_settings(artifact, f"{ENCODER}/config.json", **settings)
    assert refused(artifact, f"{ENCODER}/config.json") is None


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\xff"])
def test_a_configuration_that_is_no_json(artifact: Path, text: str) -> None:
    (artifact / ENCODER / "config.json").write_text(text, encoding="latin-1")
    assert "config.json is not JSON" in str(refused(artifact, f"{ENCODER}/config.json"))


def test_what_a_model_brings_along_is_not_written(artifact: Path) -> None:
    manifest = read_artifact(artifact).manifest
    before = json.loads((artifact / ENCODER / "config.json").read_bytes())
    file = f"{ENCODER}/config.json"
    with_settings(artifact, file, auto_map={"AutoModel": "a.B"}, text_config={"attn_implementation": KERNEL, "a": 1})
    write_manifest(artifact, manifest)
    assert json.loads((artifact / file).read_bytes()) == before | {"text_config": {"a": 1}}
    read_artifact(artifact)


def test_a_component_that_no_reader_would_load_is_not_written(artifact: Path) -> None:
    manifest = read_artifact(artifact).manifest
    with_settings(artifact, f"{ENCODER}/config.json", quantization_config={"quant_method": "fbgemm_fp8"})
    with pytest.raises(
        ArtifactError, match=r"quant_method is 'fbgemm_fp8'.*without that, and apply the recipe again\."
    ):
        write_manifest(artifact, manifest)


def test_what_transformers_saves_is_allowed(tmp_path: Path) -> None:
    from transformers import CLIPTextConfig, LlavaConfig

    for config in (CLIPTextConfig(attn_implementation="sdpa"), LlavaConfig(attn_implementation="eager")):
        config.save_pretrained(tmp_path)
        assert refused(tmp_path, "config.json") is None
