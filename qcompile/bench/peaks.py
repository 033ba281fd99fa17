"""The most GPU memory that each stage of `apply` takes."""

import torch

from qcompile.progress import Progress, Stopwatch


class Peaks(Stopwatch):
    """A stopwatch that also reads the peak of the GPU's memory at the end of every stage."""

    def __init__(self, inner: Progress, device: torch.device) -> None:
        """Read nothing where `device` is no GPU."""
        super().__init__(inner)
        self._device = device if device.type == "cuda" else None
        self.peak_gpu_bytes: dict[str, int] = {}
        """Tensors in bytes, by stage; what is between two stages counts for the later one."""
        self._restart()

    def finish(self, seconds: float) -> None:
        if self._device is not None:
            peak = torch.cuda.max_memory_allocated(self._device)
            self.peak_gpu_bytes[self._title] = max(peak, self.peak_gpu_bytes.get(self._title, 0))
            self._restart()
        super().finish(seconds)

    def _restart(self) -> None:
        if self._device is not None:
            torch.cuda.reset_peak_memory_stats(self._device)
