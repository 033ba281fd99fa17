"""Timing arms in turn, in another order each round, so that a machine whose speed drifts favours none.

`torch.utils.benchmark.Timer` times one statement in blocks, so that rounds of several arms can't take turns with it:
here is a loop of our own, and CUDA events. `qcompile.bench.limits` uses the Timer.
"""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from qcompile.bench.faults import ARM_FAULTS, reason_of, release_memory
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
    arms: Mapping[str, Timed],
    rounds: int,
    warm_up: int,
    device: torch.device,
    progress: Progress,
    watch: Callable[[], AbstractContextManager[None]] = nullcontext,
    kept: Rounds | None = None,
) -> Rounds:
    """Time every arm once a round, in an order drawn anew (from a fixed seed) for each.

    In a fixed order one arm would always follow the same other: after one that draws little power a GPU at its limit
    clocks higher for a while. An arm that fails for a reason of its own (`ARM_FAULTS`) falls out, and the others go on.

    Args:
        arms: by name.
        rounds: how often each is timed.
        warm_up: calls of each before anything counts.
        device: its queue is waited for at both ends of every timing; on a GPU its own events take the time.
        progress: told of the warm-up of each arm and of the rounds.
        watch: entered for the rounds alone: warm-up and compilation take minutes, and a share of them says little.
        kept: filled and given back, for callers who want what was measured by the time that Ctrl-C or an error ends it:
            first calls, and rounds that are whole.
    """
    found = Rounds() if kept is None else kept
    found.ms.update({name: [] for name in arms})
    alive = dict(arms)
    try:
        with torch.no_grad():
            for name, arm in arms.items():
                with stage(progress, f"warm up {name}"):
                    for _ in range(warm_up):
                        if (taken := _attempt(found, alive, name, arm, device)) is None:
                            break
                        found.first_ms.setdefault(name, taken)
            with stage(progress, f"{rounds} rounds of {', '.join(alive)}"), watch():
                order = random.Random(0)
                for _ in range(rounds):
                    for name, arm in order.sample(list(alive.items()), len(alive)):
                        taken = _attempt(found, alive, name, arm, device)
                        if taken is not None:
                            found.ms[name].append(taken)
    finally:
        # Whatever ends it, Ctrl-C or an error: hours of rounds may be behind it.
        whole = min((len(found.ms[name]) for name in alive), default=0)
        for name in alive:
            del found.ms[name][whole:]
    return found


def _attempt(found: Rounds, alive: dict[str, Timed], name: str, arm: Timed, device: torch.device) -> float | None:
    """Milliseconds of one call; None where the arm failed, which takes it out of `alive`."""
    try:
        with arm.around():
            return _time(arm.call, device)
    except ARM_FAULTS as error:
        found.absent[name] = reason_of(error)
    release_memory()
    found.ms[name] = []
    del alive[name]
    return None


def _time(call: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record(torch.cuda.current_stream(device))
        call()
        end.record(torch.cuda.current_stream(device))
        torch.cuda.synchronize(device)
        return float(begin.elapsed_time(end))
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3
