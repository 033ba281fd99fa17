import os
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from safetensors.torch import load_file

from qcompile.artifact.manifest import MANIFEST
from qcompile.artifact.read import read_artifact
from qcompile.artifact.write import write_manifest
from qcompile.errors import ArtifactError

GOLDEN = ROOT / "serialization" / "golden" / "pipeline-int8_dynamic"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(GOLDEN, tmp_path / "artifact")


def fault_of(folder: Path, allow_links: bool = False) -> str | None:
    try:
        read_artifact(folder, allow_links)
    except ArtifactError as error:
        return error.fault if str(folder) in str(error) else f"{error} does not name the folder"
    return None


def assert_every_flip_is_refused(folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            expected = {"changed_manifest", "bad_manifest"} if path.name == MANIFEST else {"changed_file"}
            assert fault_of(folder) in expected, path
        path.write_bytes(content)
    assert fault_of(folder) is None


def test_a_flipped_byte_in_any_file_is_refused(artifact: Path) -> None:
    assert_every_flip_is_refused(artifact)


@pytest.mark.slow
def test_a_flipped_byte_in_any_file_of_a_real_artifact_is_refused(eager_artifact: Path, tmp_path: Path) -> None:
    assert_every_flip_is_refused(shutil.copytree(eager_artifact, tmp_path / "artifact"))


def test_any_missing_file_is_refused(artifact: Path) -> None:
    for path in [path for path in sorted(artifact.rglob("*")) if path.is_file()]:
        content = path.read_bytes()
        path.unlink()
        assert fault_of(artifact) == ("no_manifest" if path.name == MANIFEST else "missing_file"), path
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["more.txt", "transformer/.hidden", "vae/diffusion_pytorch_model.bin", "new/file"])
def test_an_extra_file_is_refused(artifact: Path, name: str) -> None:
    (artifact / name).parent.mkdir(exist_ok=True)
    (artifact / name).write_text("x")
    assert fault_of(artifact) == "extra_file"


@pytest.mark.parametrize("name", ["README.md", ".gitattributes", ".cache/huggingface/x", ".lock"])
def test_what_hosting_services_add_is_left_alone(artifact: Path, name: str) -> None:
    (artifact / name).parent.mkdir(parents=True, exist_ok=True)
    (artifact / name).write_text("x")
    assert fault_of(artifact) is None


def test_a_special_file_is_refused(artifact: Path) -> None:
    os.mkfifo(artifact / "pipe")
    assert fault_of(artifact) == "link"


def test_a_hub_snapshot_is_made_of_links(artifact: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    for path in [path for path in artifact.rglob("*") if path.is_file()]:
        link = snapshot / path.relative_to(artifact)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    assert fault_of(snapshot) == "link"
    assert fault_of(snapshot, allow_links=True) is None
    (artifact / "recipe.yaml").unlink()
    assert fault_of(snapshot, allow_links=True) == "link"


def test_no_folder(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "none") == "no_folder"
    (tmp_path / "file").write_text("")
    assert fault_of(tmp_path / "file") == "no_folder"


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to become someone who may not read")
@pytest.mark.parametrize("name", [MANIFEST, "recipe.yaml", "vae"])
def test_unreadable(artifact: Path, name: str) -> None:
    for parent in (artifact, *artifact.parents[:4]):
        parent.chmod(parent.stat().st_mode | 0o011 | (0o044 if parent == artifact else 0))
    (artifact / name).chmod(0)
    os.seteuid(65534)
    try:
        assert fault_of(artifact) == "unreadable"
    finally:
        os.seteuid(0)
        (artifact / name).chmod(0o755)


def test_a_recipe_that_is_no_text(artifact: Path) -> None:
    manifest = read_artifact(artifact).manifest
    (artifact / "recipe.yaml").write_bytes(b"\xff\xfe\xff")
    write_manifest(artifact, manifest)
    with pytest.raises(ArtifactError, match=r"recipe\.yaml can't be read") as caught:
        _ = read_artifact(artifact).recipe_text
    assert caught.value.fault == "unreadable"


def test_sizes_and_recipe() -> None:
    artifact = read_artifact(GOLDEN)
    assert artifact.recipe_text.startswith("name: pipeline-int8_dynamic\n")
    stored = [tensor for path in GOLDEN.rglob("*.safetensors") for tensor in load_file(path).values()]
    assert artifact.weight_bytes == sum(tensor.nbytes for tensor in stored)
    assert artifact.original_weight_bytes > artifact.weight_bytes
    assert artifact.package_bytes == 0


def test_no_path_of_this_machine_is_kept(artifact: Path) -> None:
    manifest = read_artifact(artifact).manifest
    config = artifact / "transformer" / "config.json"
    before = config.read_bytes()
    config.write_bytes(before.replace(b"{", b'{"_name_or_path": "/somewhere/else/model",', 1))
    written = write_manifest(artifact, manifest)
    assert b"/somewhere/else" not in config.read_bytes()
    assert config.read_bytes() == before
    assert read_artifact(artifact).manifest == written
