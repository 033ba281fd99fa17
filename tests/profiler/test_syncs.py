"""Collecting torch's warnings of synchronizations. A CPU gives none, so here they are raised by hand; see tests/gpu."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

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


@pytest.mark.parametrize(("package", "seen"), [("torchao", True), ("torchvision", True), ("torch", False)])
def test_only_torch_itself_is_passed_over(package: str, seen: bool) -> None:
    """Others are installed beside it under names that begin alike, and a place in them is the place to look at."""
    file = str(Path(torch.__file__).parent.parent / package / "made_up.py")
    scope: dict[str, Any] = {"warnings": warnings, "TEXT": TEXT}
    exec(compile("def waits():\n    warnings.warn(TEXT, UserWarning, stacklevel=1)", file, "exec"), scope)
    with collected() as places:
        scope["waits"]()
    ((place, *_),) = places
    assert (place == file) is seen


def test_warnings_are_as_before() -> None:
    shown, filters = warnings.showwarning, list(warnings.filters)
    with collected():
        pass
    assert warnings.showwarning is shown
    assert warnings.filters == filters
