"""Models, folders and machines that are not what a run needs: one paragraph, the right exit code, nothing left."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import DEMO

from cli.conftest import Result, command, everything, run_process
from qcompile.cli import doctor
from qcompile.schemes import SCHEMES

NO_SPACE = "no space is left on that disk; what was written has been removed"
STATIC = '#!/bin/sh\nexec g++ "$@" -static-libstdc++ -static-libgcc\n'


@pytest.mark.parametrize("name", ["plan", "apply"])
@pytest.mark.parametrize(
    ("model", "piece"),
    [
        ("./gone", "--model: there is no folder ./gone. Give a folder in diffusers format, a Hub id"),
        ("gone", "--model: there is no folder gone"),
        ("builtin:flux-min", "--model: no builtin model is called 'flux-min'; did you mean 'flux-mini'?"),
        ("./weights", "weights is not in diffusers format: it has no model_index.json (it holds model.safetensors)"),
        ("./weights/model.safetensors", "is a file; a folder in diffusers format is needed"),
        ("./half", "half is incomplete: model_index.json names vae"),
        ("./broken", "model_index.json can't be read"),
        ("./other", "names no pipeline class under _class_name"),
    ],
    ids=["folder", "word", "builtin", "checkpoint", "file", "incomplete", "broken-json", "no-pipeline"],
)
def test_a_model_that_is_not_there_or_not_diffusers(
    cli: Callable[..., Result], here: Path, name: str, model: str, piece: str
) -> None:
    files = {
        "weights/model.safetensors": "",
        "half/model_index.json": '{"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}',
        "broken/model_index.json": "{",
        "other/model_index.json": "{}",
    }
    for file, text in files.items():
        (here / file).parent.mkdir(exist_ok=True)
        (here / file).write_text(text)
    before = everything(here)
    result = cli(name, DEMO, "--model", model)
    assert result.code == 2
    assert piece in result.complaint
    assert everything(here) == before


def test_a_model_that_is_not_there_is_told_where_it_was_named(
    cli: Callable[..., Result], write_recipe: Callable[..., Path], eager_artifact: Path
) -> None:
    gone = write_recipe(model={"id": "./gone"})
    assert cli("plan", gone).complaint.startswith("model.id: there is no folder ./gone")
    assert cli("plan", gone, "--set", "model.id=away").complaint.startswith("--set model.id=away: there is no folder")
    assert cli("apply", gone, "--model", "").complaint.startswith("--model: model.id: string should have at least 1")
    compared = cli("compare", eager_artifact, "--original", "gone")
    assert compared.complaint.startswith("--original: there is no folder gone")


def test_a_model_that_names_another_library(cli: Callable[..., Result], here: Path) -> None:
    (here / "odd" / "transformer").mkdir(parents=True)
    (here / "odd" / "model_index.json").write_text('{"_class_name": "FluxPipeline", "transformer": ["os", "system"]}')
    result = cli("plan", DEMO, "--model", "./odd")
    assert result.code == 2
    assert "model_index.json names os.system" in result.complaint


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}],
    ids=["offline", "refused"],
)
def test_a_hub_id_with_no_network(tmp_path: Path, environment: dict[str, str]) -> None:
    arguments = command("apply", DEMO, "--model", "qcompile-tests/nowhere", "--out", "made")
    result = run_process(arguments, tmp_path, HF_HOME=str(tmp_path / "hub"), **environment)
    assert result.code == 2
    assert "--model: qcompile-tests/nowhere is not a local folder, and the Hub can't be reached" in result.complaint
    assert "--model" in result.complaint
    assert not [name for name in everything(tmp_path) if not name.startswith("hub")]


def test_an_artifact_is_there_already(cli: Callable[..., Result], eager_artifact: Path) -> None:
    before = everything(eager_artifact.parent)
    result = cli("apply", DEMO, "--out", eager_artifact)
    assert result.code == 2
    assert "holds an artifact already. Add --overwrite, or choose another name." in result.complaint
    assert everything(eager_artifact.parent) == before


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["plain", "overwrite"])
@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "link"])
def test_something_else_is_there_and_stays(
    cli: Callable[..., Result], here: Path, kind: str, overwrite: tuple[str, ...]
) -> None:
    made = here / "made"
    if kind == "file":
        made.write_text("mine")
    elif kind == "link":
        made.symlink_to("nowhere")
    else:
        made.mkdir()
        if kind == "folder":
            (made / "thesis.tex").write_text("mine")
    before = everything(here)
    for dry in ((), ("--dry-run",)):
        result = cli("apply", DEMO, "--out", "made", *overwrite, *dry)
        assert result.code == 2
        assert "it is left alone" in result.complaint
    assert everything(here) == before


def test_a_parent_that_cannot_be_a_folder(
    cli: Callable[..., Result], write_recipe: Callable[..., Path], here: Path
) -> None:
    (here / "file").write_text("mine")
    result = cli("apply", write_recipe(), "--out", "file/made")
    assert result.code == 2
    assert "--out file/made: nothing can be written to file" in result.complaint
    assert everything(here) == {"file", "small.yaml"}


@pytest.mark.parametrize(
    "words",
    [("generate", "--prompt", "a", "--out", "a.png"), ("compare", "--out", "new/a.png"), ("report", "--out", "a.html")],
    ids=lambda words: words[0],
)
def test_a_folder_that_takes_nothing_is_found_before_the_work(
    cli: Callable[..., Result], here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple
) -> None:
    # To root, who runs tests at times, every folder is open.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != here)
    result = cli(words[0], "no-artifact-needed", *words[1:])
    assert result.code == 2
    assert f"--out {words[-1]}: nothing can be written under {here}. Choose another place" in result.complaint
    assert everything(here) == set()


@pytest.mark.parametrize(
    ("device", "code", "piece"),
    [
        ("cuda:99", 3, "--device cuda:99: this machine has "),
        ("gpu", 2, "no device is called that; allowed are cpu, cuda and cuda:N"),
        ("mps", 2, "qcompile runs on cpu and cuda"),
        ("meta", 2, "qcompile runs on cpu and cuda"),
    ],
)
def test_a_device_that_is_not_there(cli: Callable[..., Result], here: Path, device: str, code: int, piece: str) -> None:
    for name in ("plan", "apply"):
        result = cli(name, DEMO, "--device", device)
        assert result.code == code
        assert piece in result.complaint
    assert everything(here) == set()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu_at_all(cli: Callable[..., Result], here: Path) -> None:
    result = cli("apply", DEMO, "--device", "cuda", "--set", "steps.2.quantize.scheme=float8_weight_only")
    assert result.code == 3
    assert "this machine has 0 CUDA devices. Use --device cpu" in result.complaint
    assert everything(here) == set()


def test_a_gpu_that_is_too_old() -> None:
    scheme = SCHEMES["float8_weight_only"]
    assert scheme.why_not_device("cuda", (8, 9)) is None
    assert scheme.why_not_device("cuda", (9, 0)) is None
    assert scheme.why_not_device("cpu", None) is None
    assert scheme.why_not_device("cuda", (8, 6)) == (
        "float8_weight_only needs a GPU of compute capability 8.9 or higher; this one has 8.6"
    )


@pytest.mark.parametrize(
    ("named", "piece"),
    [
        ("/nonexistent/g++", "no C++ compiler: '/nonexistent/g++' is not on the PATH"),
        (None, "no C++ compiler: 'g++' is not on the PATH. Compiling ahead of time needs one: install g++"),
    ],
    ids=["CXX", "PATH"],
)
def test_no_compiler(
    cli: Callable[..., Result], here: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, piece: str
) -> None:
    if named:
        monkeypatch.setenv("CXX", named)
    else:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", "")
    result = cli("apply", DEMO, "--out", "made")
    assert result.code == 3
    assert piece in result.complaint
    assert "mode: jit" in result.complaint
    assert everything(here) == set()


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
def test_a_compiler_that_links_statically(
    cli: Callable[..., Result], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = here / "static-g++"
    wrapper.write_text(STATIC)
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    result = cli("apply", DEMO, "--out", "made")
    assert result.code == 3
    assert f"the C++ compiler {wrapper} links the C++ runtime statically" in result.complaint
    assert "export CC=/usr/bin/gcc CXX=/usr/bin/g++" in result.complaint
    assert everything(here) == {"static-g++"}


def in_small_disk(folder: Path, megabytes: int, arguments: list[str]) -> Result:
    """Run a command while `folder/disk` is a disk of that size; lists what is left on it on stdout."""
    (folder / "disk").mkdir()
    quoted = " ".join(f"'{argument}'" for argument in arguments)
    script = (
        f"mount -t tmpfs -o size={megabytes}m tmpfs '{folder}/disk' || exit 99\n{quoted}\ncode=$?\n"
        f"ls -A '{folder}/disk'\nexit $code"
    )
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1) to mount a small disk with")
    result = run_process(["unshare", "-rm", "sh", "-c", script], folder)
    if result.code in (1, 99) and "qcompile" not in result.err:
        pytest.skip(f"this machine lets nobody mount a small disk: {result.err.strip()}")
    return result


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [1, 3])
def test_no_space_for_weights(tmp_path: Path, write_recipe: Callable[..., Path], megabytes: int) -> None:
    result = in_small_disk(tmp_path, megabytes, command("apply", write_recipe(), "--out", "disk/made"))
    assert result.code == 3
    assert f"--out disk/made: {NO_SPACE}" in result.complaint


@pytest.mark.long
def test_no_space_for_packages(tmp_path: Path) -> None:
    result = in_small_disk(tmp_path, 1, command("apply", DEMO, "--out", "disk/made"))
    assert result.code == 3
    assert f"--out disk/made: {NO_SPACE}" in result.complaint


def out_of_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has …")


@pytest.mark.parametrize(
    ("use_up", "piece"),
    [
        (lambda: torch.empty(2**60, dtype=torch.uint8), "you tried to allocate 1152921504606846976 bytes"),
        (out_of_gpu_memory, "too little memory for that: CUDA out of memory. Tried to allocate 2 GiB. End other"),
        (lambda: bytearray(2**62), "too little memory for that: "),
    ],
    ids=["cpu", "gpu", "python"],
)
def test_too_little_memory(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, use_up: Callable[[], object], piece: str
) -> None:
    # No model is so large that a test could run out of memory with it.
    monkeypatch.setattr(doctor, "run", lambda options: use_up())
    result = cli("doctor")
    assert result.code == 3
    assert piece in result.complaint
