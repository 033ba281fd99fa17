"""Timing arms in turn, in another order each round, so that a machine whose speed drifts favours none."""

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from qcompile.progress import Progress, stage


@dataclass(frozen=True)
class Timed:
    """One thing to time."""

    call: Callable[[], Any]
    """What is timed."""
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered before the clock starts and left after it stops: brings the arm about."""


@dataclass
class Rounds:
    """Milliseconds of every arm in every round, and the arms that fell out."""

    ms: dict[str, list[float]] = field(default_factory=dict)
    """Empty for an arm that fell out."""
    absent: dict[str, str] = field(default_factory=dict)
    """Why."""
    first_ms: dict[str, float] = field(default_factory=dict)
    """The first call of each arm, warm-up and compilation included."""


def time_in_turn(
    arms: Mapping[str, Timed], rounds: int, warm_up: int, device: torch.device, progress: Progress
) -> Rounds:
    """Time every arm once a round, in an order drawn anew (from a fixed seed) for each.

    In a fixed order one arm would always follow the same other: after one that draws little power a GPU at its limit
    clocks higher for a while. An arm that runs out of memory falls out, and the others go on. Interrupted, what was
    measured is kept.

    Args:
        arms: by name.
        rounds: how often each is timed.
        warm_up: calls of each before anything counts.
        device: its queue is waited for at both ends of every timing; on a GPU its own events take the time.
        progress: told of the warm-up of each arm and of the rounds.
    """
    found = Rounds({name: [] for name in arms})
    with torch.no_grad():
        for name, arm in arms.items():
            with stage(progress, f"warm up {name}"):
                try:
                    with arm.around():
                        for index in range(warm_up):
                            taken = _time(arm.call, device)
                            if index == 0:
                                found.first_ms[name] = taken
                except torch.OutOfMemoryError as error:
                    _drop(found, name, error)
        alive = {name: arm for name, arm in arms.items() if name not in found.absent}
        with stage(progress, f"{rounds} rounds of {', '.join(alive)}"):
            order = random.Random(0)
            try:
                for _ in range(rounds):
                    for name, arm in order.sample(list(alive.items()), len(alive)):
                        try:
                            with arm.around():
                                found.ms[name].append(_time(arm.call, device))
                        except torch.OutOfMemoryError as error:
                            _drop(found, name, error)
                            del alive[name]
            except KeyboardInterrupt:
                whole = min((len(values) for name, values in found.ms.items() if name in alive), default=0)
                for name in alive:
                    del found.ms[name][whole:]
                raise Interrupted(found) from None
    return found


class Interrupted(Exception):
    """Ctrl-C while measuring; carries what was measured by then."""

    def __init__(self, rounds: Rounds) -> None:
        super().__init__("interrupted")
        self.rounds = rounds


def clock_limits() -> str | None:
    """What holds the GPU's clocks back at this moment, as the driver says; None where nothing does or nobody knows."""
    if not torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return None
    query = (
        "clocks_event_reasons.hw_slowdown,clocks_event_reasons.sw_thermal_slowdown,clocks_event_reasons.sw_power_cap"
    )
    asked = subprocess.run(
        ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0 or not asked.stdout.strip():
        return None
    names = ("hardware slowdown", "thermal slowdown", "power cap")
    states = [word.strip() for word in asked.stdout.splitlines()[0].split(",")]
    active = [name for name, state in zip(names, states, strict=False) if state == "Active"]
    return ", ".join(active) or None


def _time(call: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        return float(begin.elapsed_time(end))
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def _drop(found: Rounds, name: str, error: Exception) -> None:
    found.ms[name] = []
    found.absent[name] = f"out of memory: {str(error).splitlines()[0]}"
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
