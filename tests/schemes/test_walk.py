"""Every row of the scheme table is walked through what it claims, on this machine's processor."""

from pathlib import Path

import pytest

from qcompile.schemes import SCHEMES
from schemes.walk import walk_aot, walk_artifact, walk_jit

FEATURES = 128


def rows(*claims: str) -> list:
    """Every row, skipped with its own reason where it can't run here or does not claim to."""
    found = []
    for name, scheme in SCHEMES.items():
        why_not = scheme.why_not_machine("cpu", None) or next(filter(None, (getattr(scheme, c) for c in claims)), None)
        found.append(pytest.param(name, marks=pytest.mark.skipif(why_not is not None, reason=str(why_not))))
    return found


@pytest.mark.parametrize("name", rows("why_not_saved"))
def test_plan_quantize_save_load_compare(name: str, tmp_path: Path) -> None:
    walk_artifact(name, FEATURES, "cpu", tmp_path / "artifact")


@pytest.mark.slow
@pytest.mark.parametrize("name", rows("why_not_jit"))
def test_compile_jit(name: str) -> None:
    walk_jit(name, FEATURES, "cpu")


@pytest.mark.long
@pytest.mark.parametrize("name", rows("why_not_aot"))
def test_compile_aot(name: str, tmp_path: Path) -> None:
    walk_aot(name, FEATURES, "cpu", tmp_path)


@pytest.mark.long
def test_what_a_row_says_can_not_be_exported_can_not(tmp_path: Path) -> None:
    refused = [
        name for name, scheme in SCHEMES.items() if scheme.why_not_aot and scheme.why_not_machine("cpu", None) is None
    ]
    assert refused
    for name in refused:
        with pytest.raises(Exception, match=r"onstant"):
            walk_aot(name, FEATURES, "cpu", tmp_path)
