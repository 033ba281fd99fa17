import math

from qcompile.verify.report import Sensitivity
from qcompile.verify.sensitivity import _badness


def test_layers_without_which_an_error_is_finite_come_first() -> None:
    """Whatever is less than a number that is none; `sorted` alone would leave them anywhere."""
    errors = {"lost": math.nan, "some": 0.02, "culprit": 0.01, "none": 0.03}
    whole = {"lost": 0.03, "some": 0.03, "culprit": math.nan, "none": 0.03}
    rows = [Sensitivity(name, (), "", errors[name], whole[name] - errors[name], 0) for name in errors]
    assert [row.name for row in sorted(rows, key=_badness, reverse=True)] == ["culprit", "some", "none", "lost"]
