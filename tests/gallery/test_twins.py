"""Every recipe of the gallery, applied to a shrunken twin of the model it names, and loaded again."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import RECIPES
from torch import nn

import qcompile
from gallery.cases import CASES, FAMILIES, Case
from gallery.conftest import Folder
from gallery.lora import lora_in_place
from qcompile import recipe as recipes
from qcompile.aot.callspec import invoke, spec_of
from qcompile.aot.rehearse import zeros_for
from qcompile.images import paint
from qcompile.noise import quiet_libraries
from qcompile.pipeline import load_pipeline, meta_pipeline, models_of
from qcompile.recipe import Recipe
from qcompile.schemes import SCHEMES
from qcompile.steps import Phase
from qcompile.subject import SEED, subject_of_pipeline

READY = list(CASES)
COMPILED = [case for case in READY if case.compiled]
ON_CPU = "float8_weight_only"
"""What stands in for float8 schemes that need a GPU: the same weights, activations left as they are."""


def recipe_for_twin(case: Case, folder: Path, lora: Path, compiled: bool) -> Recipe:
    """The recipe with the twin's sizes, and with schemes that a CPU can run; without compilation unless asked for."""
    path = RECIPES / f"{case.recipe}.yaml"
    asked = recipes.read(path, case.overrides)
    stand_ins = [
        f"steps.{index}.quantize.scheme={ON_CPU}"
        for index, step in enumerate(asked.steps)
        if hasattr(step, "scheme") and "cpu" not in SCHEMES[step.scheme].devices
    ]
    overrides = [*case.overrides, *case.model.twin, *stand_ins, *lora_in_place(asked, folder, lora)]
    changed = recipes.read(path, overrides, model=str(folder))
    if compiled:
        return changed
    eager = [
        entry for entry, step in zip(changed.data["steps"], changed.steps, strict=True) if step.phase < Phase.COMPILE
    ]
    return recipes.parse(yaml.safe_dump(changed.data | {"steps": eager}), path.name)


def outputs(pipeline: Any, recipe: Recipe) -> np.ndarray:
    """What the pipeline makes of the recipe's call: an image, or the frames of a video."""
    subject = subject_of_pipeline(recipe, pipeline)
    label = next(iter(subject.shapes))
    image = paint(subject, label, SEED)
    if image is not None:
        return image
    return np.asarray(pipeline(**subject.arguments(label), output_type="np").frames[0])


def dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """The dtype of each parameter and buffer."""
    return {name: tensor.dtype for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def check(case: Case, recipe: Recipe, folder: Path) -> None:
    """Apply, load, and compare what comes out with what came out before saving."""
    artifact = qcompile.apply(recipe, out=folder, device="cpu")
    planned = artifact.manifest.changes
    for index, _ in enumerate(recipe.steps):
        assert any(change.action for change in planned if change.step == index)
    errors = artifact.manifest.verification.quantized_relative_error
    # Zero would mean that nothing was quantized. Rewrites alone may round in another order: convolutions in channels_last
    # differ by 1 % on a bfloat16 twin.
    assert all(error < 0.05 and (error > 0 or not case.layers) for error in errors.values())
    loaded = qcompile.load(folder, device="cpu")
    first = outputs(loaded, recipe)
    assert np.isfinite(first).all()
    assert first.std() > 0
    quantized = folder / "quantized.png"
    if quantized.exists():
        from PIL import Image

        np.testing.assert_array_equal(first, np.asarray(Image.open(quantized)))


@pytest.mark.parametrize("name", FAMILIES)
def test_models_without_weights_have_the_dtypes_of_real_ones(name: str, twin: Folder) -> None:
    """Every parameter and buffer; `load` builds models in the same way and fills them."""
    with quiet_libraries():
        real = models_of(load_pipeline(twin(name), torch.bfloat16, torch.device("cpu")))
        meta = models_of(meta_pipeline(twin(name), torch.bfloat16))
    for component, model in real.items():
        assert dtypes(meta[component]) == dtypes(model)


@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.recipe)
def test_a_denoiser_can_be_rehearsed(case: Case, twin: Folder, tmp_path: Path) -> None:
    recipe = recipe_for_twin(case, twin(case.family), tmp_path / "lora", compiled=False)
    with quiet_libraries(), torch.no_grad():
        subject = subject_of_pipeline(recipe, load_pipeline(twin(case.family), torch.bfloat16, torch.device("cpu")))
        for call in subject.calls().values():
            zeros = zeros_for(spec_of(call), torch.device("cpu"))
            assert spec_of(zeros).key() == spec_of(call).key()
            (output,) = invoke(subject.components[subject.denoiser], zeros)
            assert isinstance(output, torch.Tensor)


@pytest.mark.parametrize("case", READY, ids=lambda case: case.recipe)
def test_apply(case: Case, twin: Folder, tmp_path: Path) -> None:
    check(case, recipe_for_twin(case, twin(case.family), tmp_path / "lora", compiled=False), tmp_path / "artifact")


def test_loading_does_without_scipy(twin: Folder, tmp_path: Path) -> None:
    # SDXL's scheduler imports each one that it could be exchanged for, some of which import scipy.
    case = next(case for case in READY if case.recipe == "sdxl_fp8")
    recipe = recipe_for_twin(case, twin(case.family), tmp_path / "lora", compiled=False)
    (tmp_path / f"{recipe.name}.yaml").write_text(yaml.safe_dump(recipe.data))
    qcompile.apply(tmp_path / f"{recipe.name}.yaml", out=tmp_path / "artifact")
    program = f"""
import sys
import qcompile
pipe = qcompile.load({str(tmp_path / "artifact")!r})
print([name for name in ("scipy.stats", "scipy.integrate") if name in sys.modules])
print("KDPM2AncestralDiscreteScheduler" in [kind.__name__ for kind in pipe.scheduler.compatibles])
pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, use_beta_sigmas=True)
pipe.scheduler.set_timesteps(3)
print(len(pipe.scheduler.sigmas))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["[]", "True", "4"]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.recipe)
def test_apply_in_full(case: Case, twin: Folder, tmp_path: Path) -> None:
    recipe = recipe_for_twin(case, twin(case.family), tmp_path / "lora", compiled=True)
    check(case, recipe, tmp_path / "artifact")
