import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import DEMO, demo_data, eager_steps
from PIL import Image

import qcompile
from qcompile import recipe as recipes
from qcompile.errors import ArtifactError, MachineError, ModelError, PlanError, StepError, VerifyError
from qcompile.modules import linears
from qcompile.pipeline import load_pipeline
from qcompile.planner import plan
from qcompile.recipe import Recipe
from qcompile.schemes import SCHEMES
from qcompile.source import find_folder

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def pipeline():
    return load_pipeline(find_folder("builtin:flux-mini"), torch.bfloat16, torch.device("cpu"))


class Stages:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.notes: list[str] = []
        self.finished = 0

    def start(self, title: str) -> None:
        self.titles.append(title)

    def finish(self, seconds: float) -> None:
        assert seconds >= 0
        self.finished += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_apply_does_what_the_plan_says_and_records_it(eager_artifact: Path, make_recipe: MakeRecipe) -> None:
    from qcompile.artifact.read import read_artifact

    manifest = read_artifact(eager_artifact).manifest
    assert manifest.changes == plan(make_recipe(steps=eager_steps())).changes
    assert manifest.packages == ()
    assert manifest.components["transformer"].stored == "qcompile"
    assert manifest.components["text_encoder"].stored == "diffusers"
    assert 0 < manifest.verification.quantized_relative_error["128x128_b1"] < 0.05
    assert manifest.verification.image_psnr_db is None or manifest.verification.image_psnr_db > 15


def test_hints_of_the_plan_are_no_stages(
    tmp_path: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcompile.planner.hints", lambda recipe, changes, capability: ("leave the small layers out",))
    stages = Stages()
    qcompile.apply(make_recipe(steps=eager_steps()), out=tmp_path / "a", progress=stages)
    assert stages.notes == ["Hint: leave the small layers out"]
    assert not any("small layers" in title for title in stages.titles)


def test_progress_is_told_of_every_stage(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    stages = Stages()
    qcompile.apply(make_recipe(steps=eager_steps()), out=tmp_path / "a", progress=stages)
    assert stages.finished == len(stages.titles)
    assert "quantize transformer" in stages.titles
    assert stages.titles[0] == "plan"


def test_a_live_pipeline_is_changed_in_place(pipeline, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    artifact = qcompile.apply(make_recipe(steps=eager_steps()), pipeline=pipeline, out=tmp_path / "live")
    weight = linears(pipeline.transformer)["transformer_blocks.0.attn.to_qkv"].weight
    assert SCHEMES["int8_dynamic"].recognise(weight)
    call = {"num_inference_steps": 3, "max_sequence_length": 32, "output_type": "np"}
    prompt = "a large red circle on a blue background"
    mine = pipeline(prompt, generator=torch.Generator().manual_seed(3), **call).images
    again = qcompile.load(artifact.folder)(prompt, generator=torch.Generator().manual_seed(3), **call).images
    assert np.array_equal(mine, again)


def test_a_model_that_was_changed_since_is_refused(pipeline, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    from peft import LoraConfig

    pipeline.transformer.add_adapter(LoraConfig(r=4, target_modules=["to_out.0"]))
    steps = [{"quantize": {"component": "transformer", "scheme": "int8_weight_only"}}]
    with pytest.raises(StepError, match=r"changed since it was configured \(an adapter, a replaced layer\?\)"):
        qcompile.apply(make_recipe(steps=steps), pipeline=pipeline, out=tmp_path / "drift")
    assert list(tmp_path.iterdir()) == []


def test_a_bound_that_does_not_hold_leaves_nothing(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(steps=eager_steps(), verify={"max_relative_error": 1e-6})
    with pytest.raises(
        VerifyError, match=r"verify.max_relative_error: the relative error of transformer for 128x128_b1"
    ) as caught:
        qcompile.apply(recipe, out=tmp_path / "bad")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


SHORT = {"prompt": "a red circle on a blue background", "num_inference_steps": 3, "max_sequence_length": 32}


@pytest.fixture(scope="module")
def short_verification(tmp_path_factory: pytest.TempPathFactory):
    data = demo_data() | {"steps": eager_steps(), "call": SHORT}
    recipe = recipes.parse(yaml.safe_dump(data), "test.yaml")
    return qcompile.apply(recipe, out=tmp_path_factory.mktemp("short") / "a").manifest.verification


def test_every_step_and_the_image_are_measured(short_verification) -> None:
    errors = short_verification.step_relative_error
    assert len(errors) == SHORT["num_inference_steps"]
    # The first step of the first shape is the call that quantized_relative_error is about.
    assert errors[0] == short_verification.quantized_relative_error["128x128_b1"]
    assert all(0 < error < 0.2 for error in errors)
    assert 0.5 < short_verification.image_ssim < 1
    assert short_verification.score_loss_points is None


@pytest.mark.parametrize("bound", ["max_step_error", "min_psnr_db", "min_ssim"])
def test_bounds_just_met_and_just_missed(
    short_verification, bound: str, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    value = {
        "max_step_error": max(short_verification.step_relative_error),
        "min_psnr_db": short_verification.image_psnr_db,
        "min_ssim": short_verification.image_ssim,
    }[bound]
    out = tmp_path / "a"
    missed = value * (0.999 if bound.startswith("max_") else 1.001)
    with pytest.raises(
        VerifyError, match=rf"^verify\.{bound}: the .* is {value:.4g}; the recipe allows at .*--suggest"
    ):
        qcompile.apply(make_recipe(steps=eager_steps(), call=SHORT, verify={bound: missed}), out=out)
    assert list(tmp_path.iterdir()) == []
    qcompile.apply(make_recipe(steps=eager_steps(), call=SHORT, verify={bound: value}), out=out)
    assert out.is_dir()


def test_a_bound_on_the_task_score_of_another_model(pipeline, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(steps=eager_steps(), call=SHORT, model={}, verify={"max_score_loss_points": 1})
    with pytest.raises(PlanError, match="verify.max_score_loss_points: only images of builtin:flux-mini are scored"):
        qcompile.apply(recipe, pipeline=pipeline, out=tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_bound_on_the_task_score(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    call = SHORT | {"num_inference_steps": 2}
    recipe = make_recipe(steps=eager_steps(), call=call, verify={"max_score_loss_points": 100})
    loss = qcompile.apply(recipe, out=tmp_path / "a").manifest.verification.score_loss_points
    assert loss is not None
    assert -100 <= loss <= 100


def test_a_weight_that_is_not_finite_is_named(pipeline, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    pipeline.transformer.transformer_blocks[1].ff.net[2].weight[0, 0] = float("nan")
    with pytest.raises(
        VerifyError, match=r"transformer.transformer_blocks.1.ff.net.2 \(Linear\) .* so does its weight"
    ):
        qcompile.apply(make_recipe(steps=eager_steps(), call=SHORT), pipeline=pipeline, out=tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_lora_is_no_error(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    name = "transformer.transformer_blocks.0.attn.to_q"
    size = load_pipeline(find_folder("builtin:flux-mini"), torch.bfloat16, torch.device("cpu")).transformer.inner_dim
    adapter = {
        f"{name}.lora_A.weight": torch.randn(4, size, generator=generator),
        f"{name}.lora_B.weight": torch.randn(size, 4, generator=generator),
    }
    save_file(adapter, tmp_path / "lora.safetensors")
    steps = [{"fuse_lora": {"path": str(tmp_path / "lora.safetensors")}}]
    found = qcompile.apply(make_recipe(steps=steps, call=SHORT), out=tmp_path / "a").manifest.verification
    assert found.quantized_relative_error == {"128x128_b1": 0.0}
    assert found.image_psnr_db is None


def test_nothing_is_done_for_a_target_that_can_not_be_written(eager_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds an artifact already"):
        qcompile.apply(DEMO, out=eager_artifact)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ArtifactError, match="is not an artifact"):
        qcompile.apply(DEMO, out=tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_compiler_that_will_not_do_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    stages = Stages()
    with pytest.raises(MachineError, match="no C\\+\\+ compiler"):
        qcompile.apply(DEMO, out=tmp_path / "x", progress=stages)
    assert stages.titles == ["plan", "check the compiler"]
    assert list(tmp_path.iterdir()) == []


def test_a_bare_model(pipeline, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    from qcompile.subject import subject_of_pipeline

    recipe = make_recipe(steps=[step for step in eager_steps() if "channels_last" not in step])
    call = dict(subject_of_pipeline(recipe, pipeline).calls()["128x128_b1"])
    model = pipeline.transformer
    with pytest.raises(PlanError, match="example_inputs: give one or more"):
        qcompile.apply(recipe, model=model, out=tmp_path / "bare")
    with pytest.raises(PlanError, match="a bare model is one component"):
        qcompile.apply(make_recipe(steps=eager_steps()), model=model, example_inputs=[call], out=tmp_path / "bare")
    artifact = qcompile.apply(recipe, model=model, example_inputs=[call], out=tmp_path / "bare")
    assert artifact.manifest.model.kind == "model"
    loaded = qcompile.load(tmp_path / "bare")
    assert type(loaded) is type(model)
    with torch.no_grad():
        assert torch.equal(loaded(**call)[0], model(**call)[0])


def test_the_same_recipe_gives_the_same_weights(eager_artifact: Path, tmp_path: Path, make_recipe: MakeRecipe) -> None:
    again = qcompile.apply(make_recipe(steps=eager_steps()), out=tmp_path / "again").folder
    for path in eager_artifact.rglob("*.safetensors"):
        other = again / path.relative_to(eager_artifact)
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest(), path


def test_jit_is_recorded_and_redone(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    steps = [*eager_steps(), {"compile": {"component": "transformer", "mode": "jit"}}]
    recipe = make_recipe(steps=steps)
    planned = [change for change in plan(recipe).changes if change.kind == "compile"]
    assert {change.action for change in planned} == {"jit FluxTransformerBlock", "jit FluxSingleTransformerBlock"}
    blocks = load_pipeline(find_folder("builtin:flux-mini"), torch.bfloat16, torch.device("cpu")).transformer
    recipe.steps[-1].prepare(blocks)
    assert all(block._compiled_call_impl is not None for block in blocks.transformer_blocks)
    assert blocks._compiled_call_impl is None


@pytest.mark.slow
def test_the_compiled_demo(compiled_artifact: Path) -> None:
    from qcompile.artifact.read import read_artifact

    artifact = read_artifact(compiled_artifact)
    verification = artifact.manifest.verification
    assert [package.block for package in artifact.manifest.packages] == [
        "FluxTransformerBlock",
        "FluxSingleTransformerBlock",
    ]
    assert max(verification.compiled_relative_error.values()) < 0.02
    assert max(max(package.relative_errors.values()) for package in artifact.manifest.packages) < 0.02
    assert artifact.package_bytes < 8e6
    assert artifact.manifest.calls["128x128_b1"].device_type == "cpu"
    reference = np.asarray(Image.open(compiled_artifact / "reference.png"))
    assert reference.shape == (128, 128, 3)
    assert demo_data()["name"] in artifact.recipe_text


def test_a_recipe_for_any_model(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    steps = [{"quantize": {"component": "denoiser", "scheme": "int8_weight_only"}}]
    recipe = make_recipe(steps=steps, model={"dtype": "bfloat16"})
    with pytest.raises(ModelError, match=r"model.id: no model is named here. Name one with --model"):
        qcompile.apply(recipe, out=tmp_path / "nothing")
    pipeline = load_pipeline(find_folder("builtin:flux-mini"), torch.bfloat16, torch.device("cpu"))
    artifact = qcompile.apply(recipe, pipeline=pipeline, out=tmp_path / "live")
    assert artifact.manifest.model.id is None
    assert "component: transformer" in artifact.recipe_text  # an artifact says what was done
    assert {change.component for change in artifact.manifest.changes} == {"transformer"}
    assert type(qcompile.load(tmp_path / "live").transformer).__name__ == "FluxTransformer2DModel"
    named = qcompile.plan(recipes.parse(recipe.to_yaml(), model="builtin:flux-mini"))
    assert named.recipe.steps[0].owner == "transformer"
    assert named.changes == artifact.manifest.changes
