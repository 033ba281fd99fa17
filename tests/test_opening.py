"""Beside the imports: what is read ahead, and what goes wrong meanwhile."""

import dataclasses
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import qcompile
from qcompile import loader, opening
from qcompile.artifact import read as reading
from qcompile.artifact import stored, tensors
from qcompile.artifact.read import read_artifact
from qcompile.errors import ArtifactError, MachineError, ModelError, PlanError
from qcompile.progress import Silent


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders that were read ahead, on a CPU as it is done for a GPU."""
    folders: list[str] = []
    really = stored.read_ahead

    def read_ahead(folder: Path, device: torch.device) -> Any:
        folders.append(folder.name)
        return really(folder, device)

    monkeypatch.setattr(stored, "read_ahead", read_ahead)
    monkeypatch.setattr(opening, "READ_AHEAD", ("cpu", "cuda"))
    return folders


def test_weights_that_were_read_ahead_are_the_same(
    eager_artifact: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exercised: list[tuple[torch.device, torch.dtype]] = []
    monkeypatch.setattr(opening, "exercise", lambda *arguments: exercised.append(arguments))
    ahead = qcompile.load(eager_artifact).transformer.state_dict()
    manifest = read_artifact(eager_artifact).manifest
    assert read == [name for name, record in manifest.components.items() if record.stored == "qcompile"]
    assert exercised == [(torch.device("cpu"), torch.bfloat16)]
    assert "transformer" in read
    plain = qcompile.load(read_artifact(eager_artifact)).transformer.state_dict()
    assert ahead.keys() == plain.keys()
    x = torch.eye(64, dtype=torch.bfloat16)
    for name, tensor in plain.items():
        assert type(ahead[name]) is type(tensor)
        if type(tensor) is torch.Tensor:
            assert torch.equal(ahead[name], tensor)
        elif tensor.shape[1] == 64:
            linear = torch.nn.functional.linear
            assert torch.equal(linear(x, ahead[name]), linear(x, tensor))


def test_on_a_cpu_nothing_is_read_ahead(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "read_ahead", lambda *_: pytest.fail("files are mapped there"))
    artifact, ahead = opening.open_beside_imports(eager_artifact, "cpu", True, Silent())
    assert (artifact.folder, ahead) == (eager_artifact, {})


def test_a_start_imports_nothing_that_painting_does_not_use(eager_artifact: Path) -> None:
    program = f"""
import sys
import qcompile
pipe = qcompile.load({str(eager_artifact)!r})
pipe("a red circle", num_inference_steps=1, height=128, width=128, max_sequence_length=32)
print([name for name in ("scipy.stats", "scipy.optimize", "scipy.integrate") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("there", [False, True], ids=["no folder", "an empty one"])
def test_what_is_no_artifact_is_refused_before_anything_is_imported(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    if there:
        folder.mkdir()
    program = f"""
import sys, qcompile
try:
    qcompile.load({str(folder)!r})
except qcompile.ArtifactError as error:
    print(error.fault, "torch" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["no_manifest" if there else "no_folder", "False"]


def test_classes_that_are_none_are_told_by_load(eager_artifact: Path) -> None:
    artifact = read_artifact(eager_artifact)
    model = artifact.manifest.model.model_copy(update={"class_name": "FluxPipelin"})
    manifest = artifact.manifest.model_copy(update={"model": model})
    broken = dataclasses.replace(artifact, manifest=manifest)
    loader.import_classes(broken)
    with pytest.raises(ModelError, match="model_index.json names diffusers.FluxPipelin"):
        qcompile.load(broken)


def test_without_weights(eager_artifact: Path, read: list[str]) -> None:
    _, ahead = opening.open_beside_imports(eager_artifact, "cpu", True, Silent(), weights=False)
    assert (ahead, read) == ({}, [])


def test_nothing_is_made_of_weights_before_digests_hold(
    eager_artifact: Path, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "read_stored", lambda *_: pytest.fail("these bytes are nobody's weights"))
    folder = shutil.copytree(eager_artifact, tmp_path / "changed")
    with next((folder / "transformer").glob("*.safetensors")).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(ArtifactError, match="its digest differs"):
        qcompile.load(folder)


@pytest.mark.parametrize("digests_first", [False, True])
def test_a_file_that_is_written_to_meanwhile_is_refused(
    digests_first: bool, eager_artifact: Path, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(eager_artifact, tmp_path / "changed")
    file = next((folder / "transformer").glob("*.safetensors"))
    whole = file.read_bytes()
    if not digests_first:
        file.write_bytes(whole[:-64] + bytes(64))  # room is made for a file before it has come as a whole
    done = threading.Event()
    ahead, digests = stored.read_ahead, reading._check_digests

    def read_ahead(folder: Path, device: torch.device) -> Any:
        if digests_first:
            assert done.wait(60)
        found = ahead(folder, device)
        if folder.name == "transformer" and not digests_first:
            file.write_bytes(whole)
            done.set()
        return found

    def check_digests(*arguments: Any) -> None:
        if not digests_first:
            assert done.wait(60)
        digests(*arguments)
        if digests_first:
            file.write_bytes(whole[:-64] + bytes(64))
            done.set()

    monkeypatch.setattr(stored, "read_ahead", read_ahead)
    monkeypatch.setattr(reading, "_check_digests", check_digests)
    with pytest.raises(ArtifactError, match=f"{file.name} was written to, or moved, while it was loaded"):
        qcompile.load(folder)
    file.write_bytes(whole)
    assert qcompile.load(read_artifact(folder))


def test_no_file_of_another_size_is_read(eager_artifact: Path, read: list[str], tmp_path: Path) -> None:
    folder = shutil.copytree(eager_artifact, tmp_path / "changed")
    with next((folder / "transformer").glob("*.safetensors")).open("ab") as file:
        file.write(b"\x7f")
    with pytest.raises(ArtifactError, match="bytes instead of"):
        qcompile.load(folder)
    assert read == []


def test_the_gpu_wakes_that_weights_go_to(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[str] = []
    monkeypatch.setattr(opening, "wake", woken.append)
    opening.open_beside_imports(eager_artifact, None, True, Silent())
    opening.open_beside_imports(eager_artifact, "cpu", True, Silent(), weights=False)
    with pytest.raises(MachineError, match="--device cuda:7: this machine has"):
        opening.open_beside_imports(eager_artifact, "cuda:7", True, Silent())
    assert woken == ["cpu", "cuda:7"]


def test_a_device_that_is_none(eager_artifact: Path, read: list[str]) -> None:
    with pytest.raises(PlanError, match="--device gpu0: no device is called that"):
        qcompile.load(eager_artifact, device="gpu0")
    assert read == []


def test_memory_that_runs_out_is_told(eager_artifact: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(stored, "read_ahead", no_memory)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        qcompile.load(eager_artifact)
