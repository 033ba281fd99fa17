"""Where Python waits for the GPU."""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qcompile.profiler.advice import for_synchronization

_MESSAGE = "called a synchronizing CUDA operation"
"""What torch warns with in its synchronization debug mode (c10/cuda/CUDAFunctions.cpp)."""
# With a slash at its end: torchao, which waits too, is installed beside torch under a name that begins alike.
_NOT_USERS = (f"{Path(torch.__file__).parent}/", warnings.__file__, __file__)


@dataclass(frozen=True)
class Synchronization:
    """A line of Python that waits until the GPU has done everything before it."""

    place: str
    """`file:line`"""
    function: str
    line: str
    """The source line."""
    count: int
    """How often in the whole run."""
    every_step: bool
    """Whether it came at least once for each denoising step but one."""
    advice: str


def synchronizations(run: Callable[[], Any], num_steps: int) -> tuple[Synchronization, ...]:
    """Call `run` and name every place where it waited for the GPU.

    What torch synchronizes by itself is seen; a library that calls CUDA past torch is not.

    Args:
        run: a whole call of a pipeline, warm.
        num_steps: how many denoising steps it makes.
    """
    before = torch.cuda.get_sync_debug_mode()
    with collected() as places:
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    found = [
        Synchronization(
            f"{file}:{number}",
            function,
            line,
            count,
            every := count >= max(num_steps - 1, 2),
            for_synchronization(file, line, every),
        )
        for (file, number, function, line), count in places.items()
    ]
    return tuple(sorted(found, key=lambda item: -item.count))


@contextmanager
def collected() -> Iterator[Counter[tuple[str, int, str, str]]]:
    """Count torch's warnings of synchronizations in the body by (file, line number, function, source line).

    The place is the innermost frame outside of torch.
    """
    places: Counter[tuple[str, int, str, str]] = Counter()

    def take(message: Warning | str, *about: Any, **more: Any) -> None:
        if _MESSAGE not in str(message):
            return
        frames = traceback.extract_stack()[:-1]
        own = [frame for frame in frames if not frame.filename.startswith(_NOT_USERS)]
        frame = (own or frames)[-1]
        places[frame.filename, frame.lineno or 0, frame.name, (frame.line or "").strip()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = take
        yield places
