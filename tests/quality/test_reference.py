"""Faults planted in the embedded model, and figures of an arm that is the original itself."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from qcompile.errors import VerifyError
from qcompile.pipeline import load_pipeline
from qcompile.quality.reference import Reference, measure, take_reference
from qcompile.quality.tasks import tasks_of
from qcompile.recipe import Recipe
from qcompile.source import find_folder
from qcompile.subject import Subject, subject_of_pipeline

CALL = {"prompt": "a red circle on a blue background", "num_inference_steps": 2, "max_sequence_length": 32}
NAN = float("nan")


@pytest.fixture
def subject(make_recipe: Callable[..., Recipe]) -> Subject:
    pipeline = load_pipeline(find_folder("builtin:flux-mini"), torch.bfloat16, torch.device("cpu"))
    return subject_of_pipeline(make_recipe(call=CALL), pipeline)


@pytest.fixture
def reference(subject: Subject) -> Reference:
    return take_reference(subject, tasks_of("builtin:flux-mini", subject.call, 2), scored=True)


def test_the_original_against_itself(subject: Subject, reference: Reference) -> None:
    measured, images = measure(subject, reference, "mine")
    assert len(reference.trajectory) == 2
    assert measured.step_errors == (0.0, 0.0)
    assert measured.quantized_errors == {"128x128_b1": 0.0}
    assert measured.psnr_db == (None, None)
    assert measured.ssim == pytest.approx((1.0, 1.0))
    assert measured.score_loss_points == 0.0
    assert all(np.array_equal(*pair) for pair in zip(images, reference.images, strict=True))


def test_a_change_shows_in_every_figure(subject: Subject, reference: Reference) -> None:
    subject.components["transformer"].transformer_blocks[0].ff.net[2].bias.add_(0.5)
    measured, _ = measure(subject, reference, "mine")
    assert min(measured.step_errors) > 0.01
    assert measured.quantized_errors["128x128_b1"] == measured.step_errors[0]  # the first step is the first call
    assert all(value is not None and value < 60 for value in measured.psnr_db)
    assert max(measured.ssim) < 1


def test_the_recipes_own_image_is_among_them_and_others_differ(reference: Reference) -> None:
    assert [task.seed for task in reference.tasks] == [0, 1]
    assert reference.tasks[0].prompt == CALL["prompt"]
    assert reference.tasks[1].prompt != CALL["prompt"]
    assert not np.array_equal(*reference.images)


def test_a_layer_that_is_not_finite_is_named(subject: Subject, reference: Reference) -> None:
    subject.components["transformer"].single_transformer_blocks[1].proj_mlp.weight[0, 0] = NAN
    with pytest.raises(
        VerifyError,
        match=r"^mine transformer: its first output for 128x128_b1 holds NaN or infinity; "
        r"transformer.single_transformer_blocks.1.proj_mlp \(Linear\) is the first .* so does its weight. Look at",
    ):
        measure(subject, reference, "mine")


def test_an_original_that_is_not_finite_is_told_apart(subject: Subject) -> None:
    subject.components["transformer"].transformer_blocks[1].attn.to_q.bias[0] = NAN
    with pytest.raises(VerifyError, match=r"^the original's transformer: .*transformer_blocks.1.attn.to_q \(Linear\)"):
        take_reference(subject, tasks_of(None, subject.call, 1), scored=False)


def test_an_autoencoder_that_is_not_finite_is_named(subject: Subject, reference: Reference) -> None:
    subject.components["vae"].decoder.conv_in.weight[0, 0] = NAN
    with pytest.raises(
        VerifyError, match=r"mine image for 'a red .*', seed 0, holds values .*; vae.decoder.conv_in \(Conv2d\) is the"
    ):
        measure(subject, reference, "mine")


@pytest.mark.parametrize("channels", [slice(None), slice(0, 1)], ids=["black", "in part"])
def test_infinity_that_an_image_does_not_show_is_found(subject: Subject, reference: Reference, channels: slice) -> None:
    # diffusers clamps what is decoded, so that -inf is the black of any image.
    subject.components["vae"].decoder.conv_out.bias[channels] = -float("inf")
    with pytest.raises(
        VerifyError,
        match=r"^mine image for 'a red .*', seed 0, holds values that are not finite; "
        r"vae.decoder.conv_out \(Conv2d\) is the first module whose output holds NaN or infinity; so does its bias",
    ):
        measure(subject, reference, "mine")
    with pytest.raises(VerifyError, match=r"^the original's image .* not finite; vae.decoder.conv_out"):
        take_reference(subject, tasks_of(None, subject.call, 1), scored=False)
    assert "postprocess" not in vars(subject.pipeline.image_processor)


def test_a_black_image_is_told_where_the_originals_is_not(subject: Subject, reference: Reference) -> None:
    last = subject.components["vae"].decoder.conv_out
    last.weight.zero_()
    last.bias.fill_(-9.0)
    with pytest.raises(
        VerifyError,
        match=r"mine image .* is black, and the original's is not; all values on the way are finite; "
        r"vae.decoder.conv_out \(Conv2d\) is the first module whose output is one value throughout. Leave layers out",
    ):
        measure(subject, reference, "mine")
    last.bias.copy_(torch.tensor([-9.0, -8.0, -7.0]))
    with pytest.raises(VerifyError, match=r"is black, .*; no module's output is one value throughout. Leave"):
        measure(subject, reference, "mine")
    # Where the original paints nothing either, there is nothing to complain of.
    black = take_reference(subject, tasks_of(None, subject.call, 1), scored=False)
    measured, _ = measure(subject, black, "mine")
    assert measured.psnr_db == (None,)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (NAN, "holds values that are not finite; every module's output is finite"),
        (-1.0, "is black, and the original's"),
    ],
)
def test_every_image_of_a_call_is_looked_at(subject: Subject, value: float, fault: str) -> None:
    subject.call["num_images_per_prompt"] = 2
    reference = take_reference(subject, tasks_of("builtin:flux-mini", subject.call, 1), scored=False)
    assert reference.plain == ((False, False),)
    # The second alone is spoilt, after its last module.
    processor = subject.pipeline.image_processor
    original = processor.postprocess

    def spoilt(decoded: torch.Tensor, **options: str) -> np.ndarray:
        images = original(decoded, **options)
        images[1] = max(value, 0.0) if value == value else value
        return images

    processor.postprocess = spoilt
    with pytest.raises(VerifyError, match=f"^mine image 2 of 2 for 'a red .*', seed 0, {fault}"):
        measure(subject, reference, "mine")
