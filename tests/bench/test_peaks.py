"""GPU memory of each stage of `apply`; counters stand in for the GPU's own."""

import pytest
import torch

from qcompile.bench.peaks import Peaks
from qcompile.progress import Silent, stage


class Memory:
    """Counts as torch does: the peak since it was last reset."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.peak = 100
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.peak)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: setattr(self, "peak", self.now))

    def take(self, bytes_: int) -> None:
        self.now += bytes_
        self.peak = max(self.peak, self.now)


def test_each_stage_has_its_own_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch)
    peaks = Peaks(Silent(), torch.device("cuda", 0))
    with stage(peaks, "load"):
        memory.take(50)
        memory.take(-30)
    memory.take(500)  # between two stages
    memory.take(-500)
    with stage(peaks, "quantize"):
        memory.take(10)
    with stage(peaks, "verify"):
        memory.take(1)
    with stage(peaks, "load"):  # the larger of two stages of one name counts
        pass
    assert peaks.peak_gpu_bytes == {"load": 150, "quantize": 620, "verify": 131}
    assert peaks.seconds.keys() == {"load", "quantize", "verify"}


def test_without_a_gpu_seconds_alone() -> None:
    peaks = Peaks(Silent(), torch.device("cpu"))
    with stage(peaks, "load"):
        pass
    assert peaks.peak_gpu_bytes == {}
    assert peaks.seconds.keys() == {"load"}
