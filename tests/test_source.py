import json
from pathlib import Path

import pytest

from qcompile.errors import ModelError
from qcompile.source import component_classes, find_folder


def test_the_builtin_model_is_a_folder() -> None:
    folder = find_folder("builtin:flux-mini")
    assert component_classes(folder)["transformer"] == ("diffusers", "FluxTransformer2DModel")
    assert find_folder(str(folder)) == folder


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("builtin:flux-mni", "no builtin model is called 'flux-mni'; did you mean 'flux-mini'"),
        ("./nowhere", "there is no folder ./nowhere"),
        ("a/b/c", "there is no folder a/b/c"),
        ("plain", "there is no folder plain"),
    ],
)
def test_models_that_are_nowhere(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        find_folder(model)


def test_folders_that_hold_no_pipeline(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(
        ModelError, match=r"not in diffusers format: it has no model_index.json \(it holds weights.bin\)"
    ):
        find_folder(str(tmp_path))
    with pytest.raises(ModelError, match="is a file"):
        find_folder(str(tmp_path / "weights.bin"))
    index = tmp_path / "model_index.json"
    index.write_text("{")
    with pytest.raises(ModelError, match="can't be read"):
        find_folder(str(tmp_path))
    index.write_text("[]")
    with pytest.raises(ModelError, match="names no pipeline class"):
        find_folder(str(tmp_path))
    index.write_text(
        json.dumps({"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"], "x": [None, None]})
    )
    with pytest.raises(ModelError, match="model_index.json names vae, and there is no such folder"):
        find_folder(str(tmp_path))


def test_a_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="some/model is not a local folder, and the Hub can't be reached"):
        find_folder("some/model")
