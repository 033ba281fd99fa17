"""What of the benchmark only a GPU can show: waiting, graphs, clocks, layouts of cuDNN."""

import contextlib
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from qcompile.bench.clocks import watched
from qcompile.bench.images import ComponentClock
from qcompile.bench.limits import _convolutions
from qcompile.bench.probe import cold_start
from qcompile.bench.timing import _time
from qcompile.bench.work import Convolution


def test_memory_of_a_step_as_one_graph(cuda_artifact: Path) -> None:
    found = cold_start("aot_graphs", cuda_artifact, "cuda", "128x128_b1", True)
    assert 0 < found["resident_gpu"] <= found["peak_gpu"]
    assert found["reserved_gpu"] >= found["resident_gpu"]
    assert "image" not in found


def test_the_device_is_waited_for() -> None:
    """A kernel that is still running when its call returns is part of the time."""
    device, cycles = torch.device("cuda"), 10**8
    torch.cuda._sleep(cycles)
    torch.cuda.synchronize()
    begun = time.perf_counter()
    torch.cuda._sleep(cycles)
    returned = time.perf_counter() - begun
    torch.cuda.synchronize()
    whole_ms = (time.perf_counter() - begun) * 1e3
    assert returned * 1e3 < whole_ms / 2
    assert _time(lambda: torch.cuda._sleep(cycles), device) > whole_ms / 2

    class Sleeper(torch.nn.Module):
        def forward(self) -> None:
            torch.cuda._sleep(cycles)

    pipeline = SimpleNamespace(components={"text_encoder": Sleeper()})
    clock = ComponentClock(pipeline, device)
    with clock.around(contextlib.nullcontext):
        pipeline.components["text_encoder"]()
    assert clock.rounds[0]["text_encoder"] > whole_ms / 2


def test_clocks_are_asked_of_this_gpu() -> None:
    with watched(torch.device("cuda")) as clocks:
        time.sleep(2)
    assert clocks.unknown is None
    assert clocks.samples >= 2


def test_a_convolution_has_a_limit_in_both_layouts() -> None:
    shape = Convolution((2, 320, 64, 64), (320, 320, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    assert _convolutions(shape, torch.device("cuda"), torch.bfloat16).keys() == {"channels_first", "channels_last"}
