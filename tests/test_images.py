import numpy as np
import pytest
from diffusers.pipelines.pipeline_utils import AudioPipelineOutput, ImagePipelineOutput
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput

from qcompile.images import count_painted


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
