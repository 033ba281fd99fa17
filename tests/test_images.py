from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers.pipelines.pipeline_utils import AudioPipelineOutput, ImagePipelineOutput
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput

from qcompile.images import count_painted, paint
from qcompile.pipeline import load_pipeline
from qcompile.recipe import Recipe
from qcompile.source import find_folder
from qcompile.subject import subject_of_pipeline


def test_an_older_artifacts_call_that_asks_for_a_tuple_is_painted(make_recipe: Callable[..., Recipe]) -> None:
    call = {"prompt": "a red star", "num_inference_steps": 1, "max_sequence_length": 32, "return_dict": False}
    pipeline = load_pipeline(find_folder("builtin:flux-mini"), torch.bfloat16, torch.device("cpu"))
    image = paint(subject_of_pipeline(make_recipe(call=call), pipeline), "128x128_b1", 0)
    assert image is not None
    assert image.shape == (128, 128, 3)


@pytest.mark.parametrize(
    "result",
    [
        ImagePipelineOutput(images=np.zeros((2, 8, 8, 3))),
        WanPipelineOutput(frames=np.zeros((2, 5, 8, 8, 3))),
        AudioPipelineOutput(audios=np.zeros((2, 1, 100))),
    ],
    ids=lambda result: type(result).__name__,
)
def test_what_a_call_gave_is_counted_whatever_it_is(result: object) -> None:
    assert count_painted(result) == 2
