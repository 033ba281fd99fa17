"""Frames of a tiny Wan, which are looked at like images."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gallery.cases import FAMILIES

from qcompile.errors import VerifyError
from qcompile.noise import quiet_libraries
from qcompile.pipeline import load_pipeline
from qcompile.quality.reference import Reference, measure, take_reference
from qcompile.quality.tasks import tasks_of
from qcompile.recipe import Recipe
from qcompile.subject import Subject, subject_of_pipeline

CALL = {"prompt": "a cat", "num_inference_steps": 2, "max_sequence_length": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twin") / "wan"
    with quiet_libraries():
        FAMILIES["wan"].write_twin(root)
    return root


@pytest.fixture
def subject(folder: Path, make_recipe: Callable[..., Recipe]) -> Subject:
    with quiet_libraries():
        pipeline = load_pipeline(folder, torch.bfloat16, torch.device("cpu"))
    return subject_of_pipeline(make_recipe(call=CALL, shapes=[{"height": 64, "width": 64, "frames": 5}]), pipeline)


@pytest.fixture
def reference(subject: Subject) -> Reference:
    return take_reference(subject, tasks_of(None, subject.call, 3), scored=False)


def test_the_first_tasks_frames_are_looked_at_and_give_no_images(subject: Subject, reference: Reference) -> None:
    assert reference.plain == ((False,) * 5,)
    measured, images = measure(subject, reference, "mine")
    assert images == reference.images == ()
    assert measured.psnr_db == ()
    assert set(measured.step_errors) == {0.0}


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_a_decoder_that_is_not_finite_is_named(subject: Subject, reference: Reference, value: float) -> None:
    # Wan's autoencoder clamps by itself.
    subject.components["vae"].decoder.conv_out.bias[:1] = value
    with pytest.raises(
        VerifyError, match=r"^mine frame .*for 'a cat', seed 0, holds values that are not finite; vae.decoder.conv_out "
    ):
        measure(subject, reference, "mine")
    with pytest.raises(VerifyError, match=r"^the original's frame .* vae.decoder.conv_out \(WanCausalConv3d\)"):
        take_reference(subject, tasks_of(None, subject.call, 1), scored=False)


def test_black_frames_are_told(subject: Subject, reference: Reference) -> None:
    last = subject.components["vae"].decoder.conv_out
    last.weight.zero_()
    last.bias.fill_(-9.0)
    with pytest.raises(VerifyError, match=r"^mine frame 1 of 5 for 'a cat', .* is black, .* vae.decoder.conv_out \("):
        measure(subject, reference, "mine")
