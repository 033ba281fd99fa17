"""`qcompile apply`, `inspect` and `generate`, in the order people type them."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import DEMO
from PIL import Image

from cli.conftest import Result, command, everything, run_process
from qcompile.artifact.read import read_artifact
from qcompile.artifact.write import write_manifest
from qcompile.cli import generate
from qcompile.cli.apply import errors
from qcompile.errors import CallError


def test_the_summary_names_the_next_command(
    cli: Callable[..., Result], write_recipe: Callable[..., Path], here: Path
) -> None:
    write_recipe()
    result = cli("apply", "small.yaml")
    assert result.code == 0, result.err
    assert (here / "small" / "qcompile.json").is_file()
    assert "small is there, after " in result.out
    assert " MB -> " in result.out
    assert re.search(r"errors +quantized 0\.0\d+ at the first step, 0\.0\d+ at the worst \(rel", result.out)
    following = next(line for line in result.out.splitlines() if "next" in line).partition("next")[2].strip()
    assert following.startswith("qcompile generate small --prompt '")
    titles = [line.partition(" ... ")[0] for line in result.err.splitlines()]
    assert titles[:2] == ["plan", "load the model"]
    assert titles[-1] == "digests"
    assert all(line.endswith(" s") for line in result.err.splitlines())
    assert {entry.name for entry in here.iterdir()} == {"small", "small.yaml"}


def test_json_is_one_document(cli: Callable[..., Result], write_recipe: Callable[..., Path]) -> None:
    result = cli("apply", write_recipe(), "--out", "made", "--json")
    document = json.loads(result.out)
    assert result.err == ""
    assert document["artifact"] == "made"
    assert document["packages"] == 0
    assert document["weight_bytes_after"] < document["weight_bytes_before"]
    assert document["verification"]["quantized_relative_error"]["128x128_b1"] > 0


def test_a_dry_run_writes_nothing(cli: Callable[..., Result], here: Path) -> None:
    result = cli("apply", DEMO, "--dry-run", "--out", "made")
    assert result.code == 0
    assert "int8_dynamic" in result.out
    assert json.loads(cli("apply", DEMO, "--dry-run", "--json").out)["plans"][0]["recipe"] == "flux_mini_int8"
    assert everything(here) == set()


def test_overwrite_replaces_an_artifact(cli: Callable[..., Result], write_recipe: Callable[..., Path]) -> None:
    path = write_recipe()
    assert cli("apply", path).code == 0
    assert cli("apply", path).code == 2
    assert cli("apply", path, "--overwrite", "--set", "version=7").code == 0
    assert json.loads(cli("inspect", "small", "--json").out)["recipe"]["version"] == 7


def test_a_bound_that_does_not_hold_is_1(cli: Callable[..., Result], write_recipe: Callable[..., Path]) -> None:
    path = write_recipe()
    before = everything(path.parent)
    result = cli("apply", path, "--set", "verify.max_relative_error=0.0000001")
    assert result.code == 1
    assert "verify.max_relative_error" in result.complaint
    assert everything(path.parent) == before


def test_no_image_is_called_the_same_where_none_was_painted(eager_artifact: Path) -> None:
    artifact = read_artifact(eager_artifact)
    equal = artifact.manifest.verification.model_copy(update={"image_psnr_db": None})
    manifest = artifact.manifest.model_copy(update={"verification": equal})
    assert errors(replace(artifact, manifest=manifest)).endswith("; same image")
    files = {name: record for name, record in manifest.files.items() if not name.endswith(".png")}
    unpainted = replace(artifact, manifest=manifest.model_copy(update={"files": files}))
    assert errors(unpainted).endswith("; no image was compared")


def test_inspect_says_what_is_in_it(cli: Callable[..., Result], eager_artifact: Path) -> None:
    result = cli("inspect", eager_artifact)
    assert result.code == 0
    for piece in ("flux_mini_int8 version 1", "FluxPipeline", "int8_dynamic x", "FluxTransformer2DModel", "128x128_b1"):
        assert piece in result.out
    document = json.loads(cli("inspect", eager_artifact, "--json").out)
    assert document["actions"]["channels_last"] > 10
    assert document["packages"] == []
    assert document["components"]["transformer"]["stored"] == "qcompile"


def test_inspect_loads_no_torch(tmp_path: Path, eager_artifact: Path) -> None:
    code = "import sys\nfrom qcompile.cli import main\nmain()\nsys.exit('torch' if 'torch' in sys.modules else 0)"
    result = run_process([command()[0], "-c", code, "inspect", str(eager_artifact)], tmp_path)
    assert result.err == ""
    assert result.code == 0


def test_inspect_refuses_what_is_damaged(cli: Callable[..., Result], here: Path) -> None:
    assert "no such folder" in cli("inspect", "gone").complaint
    (here / "empty").mkdir()
    result = cli("inspect", "empty")
    assert result.code == 2
    assert "not an artifact" in result.complaint


def test_generate_uses_what_the_artifact_was_made_for(
    cli: Callable[..., Result], eager_artifact: Path, here: Path
) -> None:
    result = cli("generate", eager_artifact, "--prompt", "a red star on a white background", "--steps", "2")
    assert result.code == 0, result.err
    assert result.out.startswith("image.png is there: 128x128, 2 steps, seed 0, ")
    with Image.open(here / "image.png") as image:
        assert image.size == (128, 128)
    recorded = json.loads((eager_artifact / "qcompile.json").read_text())["call"]
    other = ("--steps", "2", "--height", "96", "--width", "128", "--seed", "3", "--guidance", "2", "--out", "b.png")
    document = json.loads(cli("generate", eager_artifact, "--prompt", "a blue ring", *other, "--json").out)
    assert document["images"] == ["b.png"]
    assert document["seed"] == 3
    assert document["call"]["guidance_scale"] == 2
    assert document["call"]["max_sequence_length"] == recorded["max_sequence_length"]
    with Image.open(here / "b.png") as image:
        assert image.size == (128, 96)


def test_a_prompt_that_is_cut_is_told(cli: Callable[..., Result], eager_artifact: Path) -> None:
    words = ("generate", eager_artifact, "--steps", "1", "--overwrite", "--prompt")
    assert "truncated" not in cli(*words, "a red star").err
    result = cli(*words, "a red star " * 100)
    assert result.code == 0
    assert "truncated because `max_sequence_length` is set to 32 tokens" in result.err
    notes = json.loads(cli(*words, "a red star " * 100, "--json").out)["notes"]
    assert notes
    assert all("truncated" in note for note in notes)


def test_the_seed_decides_the_image(cli: Callable[..., Result], eager_artifact: Path, here: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        call = ("--prompt", "a red star", "--steps", "1", "--seed", seed, "--out", f"{name}.png")
        assert cli("generate", eager_artifact, *call).code == 0
    images = [(here / f"{name}.png").read_bytes() for name in "abc"]
    assert images[0] == images[1]
    assert images[0] != images[2]


def test_a_batch_gives_numbered_images(
    cli: Callable[..., Result], write_recipe: Callable[..., Path], here: Path
) -> None:
    path = write_recipe(shapes=[{"height": 96, "width": 96, "batch": 2}])
    assert cli("apply", path, "--set", "call.num_inference_steps=1").code == 0
    result = cli("generate", "small", "--prompt", "a red star", "--out", "star.png")
    assert result.out.startswith("star-1.png, star-2.png are there")
    assert (here / "star-2.png").is_file()


def test_a_declared_size_is_painted_with_its_own_batch(
    cli: Callable[..., Result], eager_artifact: Path, here: Path
) -> None:
    copy = shutil.copytree(eager_artifact, here / "copy")
    manifest = read_artifact(copy).manifest
    first = manifest.shapes["128x128_b1"]
    shapes = manifest.shapes | {"64x128_b2": first.model_copy(update={"height": 64, "batch": 2})}
    write_manifest(copy, manifest.model_copy(update={"shapes": shapes}))
    for height, count in ((64, 2), (128, 1), (96, 1)):
        words = ("--prompt", "a red star", "--steps", "1", "--height", height, "--width", "128", "--json")
        found = json.loads(cli("generate", copy, *words, "--out", f"{height}.png").out)
        assert len(found["images"]) == count


def test_a_size_without_a_package_is_told_as_an_option(
    cli: Callable[..., Result], eager_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise CallError("no package.")

    monkeypatch.setattr(generate, "_paint", refuse)
    result = cli("generate", eager_artifact, "--prompt", "a red star")
    assert result.code == 2
    assert "no package. On the command line: --on-unknown-shape eager." in result.complaint


@pytest.fixture
def odd_artifact(eager_artifact: Path, here: Path) -> Callable[..., Path]:
    """An artifact with more in its call, as older versions made them: `odd_artifact(return_dict=False)`."""

    def make(**call: object) -> Path:
        copy = shutil.copytree(eager_artifact, here / "odd")
        manifest = read_artifact(copy).manifest
        write_manifest(copy, manifest.model_copy(update={"call": manifest.call | {"num_inference_steps": 1} | call}))
        return copy

    return make


@pytest.mark.parametrize("call", [{"return_dict": False}, {"output_type": "latent"}], ids=lambda call: next(iter(call)))
def test_older_artifacts_paint_whatever_form_their_call_asked_for(
    cli: Callable[..., Result], odd_artifact: Callable[..., Path], here: Path, call: dict
) -> None:
    artifact = odd_artifact(**call)
    result = cli("generate", artifact, "--prompt", "a red star")
    assert result.code == 0, result.err
    with Image.open(here / "image.png") as image:
        assert image.size == (128, 128)
    result = cli("compare", artifact, "--prompt", "a red star")
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("out", "piece"),
    [
        ("folder.png --overwrite", "--out folder.png: can't be replaced"),
        ("there.png", "Add --overwrite"),
        ("image.what", ".what is no image"),
        ("gone/image.png", "no folder gone"),
    ],
    ids=["is-folder", "exists", "suffix", "folder"],
)
def test_generate_refuses_a_file_before_it_works(cli: Callable[..., Result], here: Path, out: str, piece: str) -> None:
    (here / "there.png").write_bytes(b"mine")
    (here / "folder.png").mkdir()
    result = cli("generate", "no-artifact-needed", "--prompt", "a red star", "--out", *out.split())
    assert result.code == 2
    assert piece in result.complaint
    assert (here / "there.png").read_bytes() == b"mine"


def test_generate_refuses_what_is_no_artifact(cli: Callable[..., Result], here: Path) -> None:
    result = cli("generate", "./gone", "--prompt", "a red star")
    assert result.code == 2
    assert "no such folder" in result.complaint
    assert everything(here) == set()


@pytest.mark.slow
def test_processes_of_their_own_say_nothing_else(tmp_path: Path, write_recipe: Callable[..., Path]) -> None:
    made = run_process(command("apply", write_recipe(), "--json"), tmp_path)
    assert (made.code, made.err) == (0, "")
    assert json.loads(made.out)["artifact"] == "small"
    painted = run_process(command("generate", "small", "--prompt", "a red star", "--steps", "1", "--json"), tmp_path)
    assert (painted.code, painted.err) == (0, "")
    assert json.loads(painted.out)["images"] == ["image.png"]


@pytest.mark.slow
def test_packages_are_listed_and_run(cli: Callable[..., Result], compiled_artifact: Path, here: Path) -> None:
    listed = cli("inspect", compiled_artifact)
    assert "compiled/transformer/128x128_b1/FluxTransformerBlock.pt2" in listed.out
    assert "single_transformer_blocks.{0.." in listed.out
    arguments = ("generate", compiled_artifact, "--prompt", "a red star", "--steps", "2")
    assert cli(*arguments, "--out", "compiled.png").code == 0
    refused = cli(*arguments, "--height", "160", "--out", "other.png")
    assert refused.code == 2
    assert "Shapes with packages: 128x128_b1" in refused.complaint
    assert refused.complaint.endswith("On the command line: --on-unknown-shape eager.")
    assert cli(*arguments, "--height", "160", "--on-unknown-shape", "eager", "--out", "other.png").code == 0
    assert cli(*arguments, "--no-compiled", "--out", "eager.png").code == 0
    assert {path.name for path in here.iterdir()} == {"compiled.png", "other.png", "eager.png"}
