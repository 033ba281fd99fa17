"""Importing torch, diffusers and transformers: without a word, and without work that is done twice or for nothing."""

import functools
import gc
import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

from qcompile.noise import quiet_imports


@contextmanager
def library_imports() -> Iterator[None]:
    """Import libraries in the body.

    They make millions of objects that live as long as the process; the garbage collector would look through them again
    and again and find nothing, a sixth of the time. And both diffusers and transformers 5.17 ask which packages are
    installed, which reads the list of files of each: a second where 200 are.
    """
    collects, scan = gc.isenabled(), importlib.metadata.packages_distributions
    gc.disable()
    importlib.metadata.packages_distributions = functools.cache(scan)
    try:
        with quiet_imports():
            yield
    finally:
        importlib.metadata.packages_distributions = scan
        if collects:
            gc.enable()
