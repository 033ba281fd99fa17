"""Every recipe of the gallery, planned for the model it names at the size it is published in, without weights."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import RECIPES, ROOT
from test_recipes import ALL

from gallery.cases import CASES, FAMILIES, Case
from gallery.conftest import Folder
from gallery.lora import lora_in_place
from qcompile import recipe as recipes
from qcompile.errors import ModelError
from qcompile.modules import is_sensitive, stored_tensors
from qcompile.noise import quiet_libraries
from qcompile.pipeline import denoiser_of, meta_pipeline, models_of
from qcompile.planner import plan
from qcompile.subject import subject_of_pipeline

READY = list(CASES)


def test_every_recipe_is_tried() -> None:
    """The flux_mini recipes are tried on the embedded model itself, the generic ones on all of diffusers (breadth)."""
    named = {path.stem for path in ALL if not path.stem.startswith(("flux_mini", "generic"))}
    assert {case.recipe for case in CASES} == named


@pytest.mark.parametrize("name", FAMILIES)
def test_the_configuration_is_the_published_one(name: str, full: Folder) -> None:
    """The number of parameters is known of every model; a wrong number in its configuration would change it."""
    with quiet_libraries():
        models = models_of(meta_pipeline(full(name), torch.bfloat16))
    denoiser = models[denoiser_of(models)]
    # Published counts are those of the weight file, which holds SD3's table of positions too.
    count = sum(tensor.numel() for tensor in stored_tensors(denoiser).values())
    published = FAMILIES[name].parameters
    # The model cards of some say no more than "5.57 B".
    assert count == (published if published % 100_000 else pytest.approx(published, rel=0.01))
    assert not list(full(name).rglob("*.safetensors"))


@pytest.mark.parametrize("case", READY, ids=lambda case: case.recipe)
def test_plan(case: Case, full: Folder, tmp_path: Path) -> None:
    path, folder = RECIPES / f"{case.recipe}.yaml", full(case.family)
    overrides = [*case.overrides, *lora_in_place(recipes.read(path), folder, tmp_path)]
    recipe = recipes.read(path, overrides, model=str(folder))
    found = plan(recipe, device="cpu")
    chosen = [
        change
        for change in found.changes
        if change.kind == "quantize" and change.component == found.denoiser and change.action
    ]
    assert len(chosen) == case.layers
    weights = {component.name: component for component in found.components}
    assert weights[found.denoiser].after == pytest.approx(case.gigabytes * 1e9, rel=0.002)
    assert not [change.module for change in chosen if is_sensitive(change.module)]
    for change in chosen:
        assert len(change.rows) == len(recipe.header.shapes)
        # Compiled int8 needs 17 rows or more; Qwen-Image's text has one row a token.
        assert min(change.rows) >= (17 if recipe.header.call.get("max_sequence_length") else 5)


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_package_that_the_tokenizer_needs_is_named(full: Folder, tmp_path: Path) -> None:
    """FLUX.2 has its tokenizer inside a processor for images, which transformers makes with torchvision only."""
    shutil.copytree(full("flux2"), tmp_path / "flux2")
    index = tmp_path / "flux2" / "model_index.json"
    index.write_text(index.read_text(encoding="utf-8").replace("TokenizersBackend", "PixtralProcessor"))
    assert "PixtralProcessor" in index.read_text(encoding="utf-8")
    with pytest.raises(ModelError, match="no PixtralProcessor can be made of it: .*[Tt]orchvision"):
        meta_pipeline(tmp_path / "flux2", torch.bfloat16)


@pytest.mark.parametrize("name", FAMILIES)
def test_denoisers_are_called_without_output_objects(name: str, full: Folder) -> None:
    """What the guides to fast pipelines ask for, `return_dict=False` inside, is what diffusers does by itself."""
    case = next(case for case in CASES if case.family == name)
    recipe = recipes.read(RECIPES / f"{case.recipe}.yaml", model=str(full(name)))
    with quiet_libraries():
        pipeline = meta_pipeline(full(name), torch.bfloat16)
        calls = subject_of_pipeline(recipe, pipeline).calls()
    assert {call["return_dict"] for call in calls.values()} == {False}


def run(arguments: list[str], tmp_path: Path) -> tuple[float, float]:
    """Run the command and return the seconds of computing and the most memory in 10^9 bytes that it took."""
    # A process counts what the one it was forked from held, so a small one in between starts the command.
    between = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], 'w'),"
        " stderr=subprocess.STDOUT).returncode; used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        " print(code, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9)"
    )
    words = [sys.executable, "-c", between, str(tmp_path / "output"), sys.executable, "-m", "qcompile.cli", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    code, seconds, gigabytes = map(float, result.stdout.split())
    assert code == 0, (tmp_path / "output").read_text()
    return seconds, gigabytes


@pytest.mark.slow
def test_a_plan_takes_seconds_and_little_memory(full: Folder, tmp_path: Path) -> None:
    """FLUX.1-dev with its text encoders would take 34 GB."""
    seconds, gigabytes = run(["plan", str(RECIPES / "flux_int8.yaml"), "--model", str(full("flux_dev"))], tmp_path)
    assert re.search(r"total +33,741 MB", (tmp_path / "output").read_text())
    # Of computing, so that a machine that is busy with something else does not fail it; importing torch is in it.
    assert seconds < 10
    assert gigabytes < 2


def test_all_recipes_are_validated_in_seconds(tmp_path: Path) -> None:
    files = [str(path) for path in ALL]
    seconds, _ = run(["validate", *files], tmp_path)
    assert seconds < 3
