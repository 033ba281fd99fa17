"""`compare`: both arms paint the same prompts from the same noise, are timed apart, and land on one sheet."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import qcompile
from qcompile.artifact.read import read_artifact
from qcompile.compare import FLUX_MINI_PROMPTS, Arm, Comparison, call_of, compare, default_prompts
from qcompile.errors import ModelError, PlanError
from qcompile.recipe import Recipe

PROMPTS = ("a red circle on a blue background", "a small white star on a black background")


@pytest.fixture(scope="module")
def comparison(eager_artifact: Path) -> Comparison:
    return compare(eager_artifact, prompts=PROMPTS, seed=7, num_inference_steps=2)


def test_each_arm_paints_every_prompt(comparison: Comparison) -> None:
    for arm in (comparison.original, comparison.artifact):
        assert [image.size for image in arm.images] == [(128, 128)] * 2
        assert len(arm.seconds) == 2
        assert all(seconds > 0 for seconds in arm.seconds)
        assert arm.load_seconds > 0
    assert comparison.prompts == PROMPTS


def test_images_are_those_of_the_two_pipelines(comparison: Comparison, eager_artifact: Path) -> None:
    import torch

    pipeline = qcompile.load(eager_artifact)
    call, _ = call_of(read_artifact(eager_artifact).manifest, 2)
    for index, prompt in enumerate(PROMPTS):
        image = pipeline(prompt, generator=torch.Generator().manual_seed(7 + index), **call).images[0]
        np.testing.assert_array_equal(np.asarray(image), np.asarray(comparison.artifact.images[index]))
        # The weights differ, so the other arm's image must too: else one pipeline was compared with itself.
        assert (np.asarray(image) != np.asarray(comparison.original.images[index])).any()


def test_weights_are_those_of_each_arm(comparison: Comparison, eager_artifact: Path) -> None:
    records = read_artifact(eager_artifact).manifest.components.values()
    assert comparison.original.weight_bytes == sum(record.bytes_before for record in records)
    assert comparison.artifact.weight_bytes == pytest.approx(sum(record.bytes_after for record in records), rel=0.02)
    assert comparison.artifact.package_bytes == 0


def test_captions_are_scored_and_other_prompts_are_not(comparison: Comparison, eager_artifact: Path) -> None:
    assert comparison.original.num_right in (0, 1, 2)
    other = compare(eager_artifact, prompts=["a red circle"], num_inference_steps=1)
    assert other.original.num_right is None


def test_speed_is_the_ratio_of_medians() -> None:
    def arm(*seconds: float) -> Arm:
        return Arm("original", "", (), seconds, 0.0, 0, 0, None)

    found = Comparison("m", PROMPTS, 0, arm(1.0, 9.0, 2.0), arm(0.5, 0.4, 99.0))
    assert found.original.seconds_per_image == 2.0
    assert found.speedup == 4.0


def test_call_takes_a_shape_of_batch_one(eager_artifact: Path) -> None:
    manifest = read_artifact(eager_artifact).manifest
    shapes = {
        "96x96_b2": manifest.shapes["128x128_b1"].model_copy(update={"height": 96, "width": 96, "batch": 2}),
        "64x64_b1": manifest.shapes["128x128_b1"].model_copy(update={"height": 64, "width": 64}),
    }
    call, batch = call_of(manifest.model_copy(update={"shapes": shapes}))
    assert (call["height"], batch, call["num_inference_steps"]) == (64, 1, manifest.call["num_inference_steps"])
    only = {"96x96_b2": shapes["96x96_b2"]}
    negative = manifest.call | {"negative_prompt": "blur"}
    call, batch = call_of(manifest.model_copy(update={"shapes": only, "call": negative}), 3)
    assert (call["height"], batch, call["num_inference_steps"]) == (96, 2, 3)
    assert call["negative_prompt"] == ["blur", "blur"]
    assert "prompt" not in call


def test_default_prompts(eager_artifact: Path) -> None:
    from qcompile.builtin.captions import COLOURS, RELATIONS, SHAPES, parse_caption

    manifest = read_artifact(eager_artifact).manifest
    assert default_prompts(manifest) == FLUX_MINI_PROMPTS
    captions = [parse_caption(prompt) for prompt in FLUX_MINI_PROMPTS]
    assert {thing.shape for caption in captions for thing in caption.things} == set(SHAPES)
    assert {caption.relation for caption in captions} == {None, *RELATIONS}
    colours = {thing.colour for caption in captions for thing in caption.things}
    assert colours | {caption.background for caption in captions} == set(COLOURS)
    other = manifest.model_copy(update={"model": manifest.model.model_copy(update={"id": "some/model"})})
    assert default_prompts(other) == (manifest.call["prompt"],)
    with pytest.raises(PlanError, match="--prompt"):
        default_prompts(other.model_copy(update={"call": {}}))


def test_a_model_that_is_not_there(eager_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no folder"):
        compare(eager_artifact, original=str(tmp_path / "nowhere"))


def test_a_bare_model_is_refused(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    from qcompile.pipeline import load_pipeline
    from qcompile.source import find_folder
    from qcompile.subject import subject_of_pipeline

    torch = pytest.importorskip("torch")
    recipe = make_recipe(steps=[{"quantize": {"component": "transformer", "scheme": "int8_weight_only"}}])
    pipeline = load_pipeline(find_folder("builtin:flux-mini"), torch.bfloat16, torch.device("cpu"))
    calls = subject_of_pipeline(recipe, pipeline).calls()
    qcompile.apply(recipe, model=pipeline.transformer, example_inputs=list(calls.values()), out=tmp_path / "bare")
    with pytest.raises(ModelError, match="bare FluxTransformer2DModel"):
        compare(tmp_path / "bare")


@pytest.mark.slow
def test_compiled_code_is_counted(compiled_artifact: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(compiled_artifact, tmp_path / "copy")
    found = compare(copy, prompts=PROMPTS[:1], num_inference_steps=2)
    assert found.artifact.package_bytes == sum(path.stat().st_size for path in copy.rglob("*.pt2")) > 0
