"""Collecting torch's warnings of synchronizations. A CPU gives none, so here they are raised by hand; see tests/gpu."""

import inspect
import warnings

from qcompile.profiler.syncs import collected

TEXT = "called a synchronizing CUDA operation (Triggered internally at /pytorch/c10/cuda/CUDAFunctions.cpp:317.)"


def waits() -> None:
    warnings.warn(TEXT, UserWarning, stacklevel=1)


def test_places_are_counted() -> None:
    with collected() as places:
        for _ in range(3):
            waits()
        warnings.warn("something else", UserWarning, stacklevel=1)
    line = waits.__code__.co_firstlineno + 1
    assert places == {(inspect.getsourcefile(waits), line, "waits", inspect.getsourcelines(waits)[0][1].strip()): 3}


def test_warnings_are_as_before() -> None:
    shown, filters = warnings.showwarning, list(warnings.filters)
    with collected():
        pass
    assert warnings.showwarning is shown
    assert warnings.filters == filters
