"""Loading torch, diffusers and transformers: without a word, and in two thirds of the time."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from qcompile.noise import quiet_imports


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import libraries in the body.

    They make millions of objects that live as long as the process. The garbage collector looks through them again and
    again, while they are imported and once more at the end, and finds nothing: 2 of the 6 seconds of `qcompile plan`.
    """
    gc.disable()
    try:
        with quiet_imports():
            yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)
