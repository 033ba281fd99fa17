"""Loading torch, diffusers and transformers: without a word, and in two thirds of the time."""

import atexit
import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from qcompile.imports import library_imports


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import libraries in the body.

    The garbage collector does not look through what they made, neither later nor once more at the end, which together
    with `library_imports` saves 2 of the 6 seconds of `qcompile plan`. A process of our own may decide that.
    """
    try:
        with _signals_later(), library_imports():
            yield
    finally:
        gc.freeze()
        atexit.register(gc.freeze)


@contextmanager
def _signals_later() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back while the body runs: libraries that are half imported fail in ways of their own."""
    came: list[int] = []
    ending = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, lambda number, _: came.append(number)) for kind in ending}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    for number in came[:1]:
        signal.raise_signal(number)
