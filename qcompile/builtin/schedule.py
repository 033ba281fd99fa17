# SPDX-License-Identifier: Apache-2.0
"""How long a training phase runs and how its learning rate goes: a number of steps, or minutes of wall clock."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tqdm import tqdm


@dataclass(frozen=True)
class Length:
    """A phase ends after `steps`, or after `minutes` where they are given."""

    steps: int
    minutes: float | None = None


def steps_of(length: Length, title: str) -> Iterator[tuple[int, float]]:
    """Count steps with a progress bar: gives (step, how far the phase is, from 0 to 1)."""
    started = time.monotonic()
    with tqdm(total=length.steps if length.minutes is None else None, desc=title, mininterval=5) as bar:
        step = 0
        while True:
            elapsed = (time.monotonic() - started) / 60
            progress = step / length.steps if length.minutes is None else elapsed / length.minutes
            if progress >= 1:
                return
            yield step, progress
            step += 1
            bar.update()


def learning_rate(peak: float, step: int, progress: float, warm_up_steps: int = 300) -> float:
    """Linear warm-up to `peak`, then half a cosine down to 2 % of it."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * progress)
    return peak * min(1.0, (step + 1) / warm_up_steps) * (0.02 + 0.98 * cosine)
