"""Whether a GPU's clocks are held back while arms are timed. They are only looked at, never set."""

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import torch

REASONS = {"hw_slowdown": "hardware slowdown", "sw_thermal_slowdown": "thermal slowdown", "sw_power_cap": "power cap"}
PREFIXES = ("clocks_event_reasons", "clocks_throttle_reasons")
"""What drivers call these fields, newer ones first."""
EVERY_MS = 500
TIMEOUT_S = 30


@dataclass
class Clocks:
    """What the driver said while the body of `watched` ran."""

    samples: int = 0
    held_back: Counter[str] = field(default_factory=Counter)
    """Samples in which each reason held."""
    unknown: str | None = None
    """Why the driver said nothing."""

    @property
    def note(self) -> str | None:
        """What a reader of the figures must know; None where nothing was held back."""
        if self.unknown:
            return f"whether the GPU's clocks were held back is not known: {self.unknown}"
        found = [f"{reason} in {count} of {self.samples} samples" for reason, count in self.held_back.items()]
        return f"the GPU's clocks were held back: {', '.join(found)}" if found else None


@contextmanager
def watched(device: torch.device) -> Iterator[Clocks]:
    """Ask the driver about one GPU's clocks, again and again, while the body runs.

    Args:
        device: nothing is asked about a CPU.
    """
    clocks = Clocks()
    if device.type != "cuda":
        yield clocks
        return
    with watched_gpu(f"GPU-{torch.cuda.get_device_properties(device).uuid}", clocks):
        yield clocks


@contextmanager
def noted(device: torch.device, what: str, notes: list[str]) -> Iterator[None]:
    """As `watched`; what a reader must know is added to `notes`, also where the body raises.

    Args:
        device: nothing is asked about a CPU.
        what: what is measured meanwhile, the note's first words.
        notes: of the record.
    """
    clocks = Clocks()
    try:
        with watched(device) as clocks:
            yield
    finally:
        if clocks.note:
            notes.append(f"{what}: {clocks.note}")


@contextmanager
def watched_gpu(uuid: str, clocks: Clocks) -> Iterator[None]:
    """As `watched`, for the GPU of this id: numbers of torch and of nvidia-smi differ under CUDA_VISIBLE_DEVICES."""
    words = _query(uuid, clocks)
    if words is None:
        yield
        return
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([*words, f"--loop-ms={EVERY_MS}"], stdout=said, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(TIMEOUT_S)
            said.seek(0)
            _count(said.read().splitlines(), clocks)


def _query(uuid: str, clocks: Clocks) -> list[str] | None:
    """The command that this driver understands; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        clocks.unknown = "there is no nvidia-smi"
        return None
    for prefix in PREFIXES:
        fields = ",".join(f"{prefix}.{reason}" for reason in REASONS)
        words = ["nvidia-smi", f"--id={uuid}", f"--query-gpu={fields}", "--format=csv,noheader"]
        try:
            asked = subprocess.run(words, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            clocks.unknown = f"nvidia-smi gave no answer ({type(error).__name__})"
            return None
        if asked.returncode == 0:
            clocks.unknown = None
            return words
        clocks.unknown = f"nvidia-smi: {' '.join((asked.stdout or asked.stderr).split())[:200]}"
    return None


def _count(lines: list[str], clocks: Clocks) -> None:
    for line in lines:
        states = [word.strip() for word in line.split(",")]
        if len(states) != len(REASONS):  # cut short when it was stopped
            continue
        clocks.samples += 1
        clocks.held_back.update(name for name, state in zip(REASONS.values(), states, strict=True) if state == "Active")
    if not clocks.samples:
        clocks.unknown = "nvidia-smi gave no sample"
