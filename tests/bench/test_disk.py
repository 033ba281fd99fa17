import dataclasses
import shutil
from pathlib import Path

from qcompile.artifact.read import read_artifact
from qcompile.bench.disk import add_bytes
from qcompile.bench.found import Found
from qcompile.source import find_folder


def test_bytes_of_the_original_are_of_what_it_is_loaded_from(eager_artifact: Path, tmp_path: Path) -> None:
    """Folders of models often hold more."""
    artifact, found = read_artifact(eager_artifact), []
    plain = find_folder(artifact.manifest.model.id)
    crowded = shutil.copytree(plain, tmp_path / "model")
    (crowded / "single_file.safetensors").write_bytes(bytes(1000))
    (crowded / ".git").mkdir()
    (crowded / ".git" / "pack").write_bytes(bytes(1000))
    for folder in (plain, crowded):
        model = artifact.manifest.model.model_copy(update={"id": str(folder)})
        manifest = artifact.manifest.model_copy(update={"model": model})
        add_bytes(Found(measured=found), dataclasses.replace(artifact, manifest=manifest), {}, ("eager",))
    before, after = (item.value for item in found if item.arm == "original")
    assert before == after > artifact.original_weight_bytes
