import json
from pathlib import Path

import pytest

from qcompile.figures import figure, read_record, write_record


def test_the_median_with_its_spread() -> None:
    item = figure("step", [3.0, 1.0, 2.0], "ms")
    assert (item.value, item.low, item.high, item.count) == (2.0, 1.0, 3.0, 3)
    assert item.holds
    assert item.bound == ""


@pytest.mark.parametrize(
    ("bounds", "holds", "text"),
    [
        ({"at_most": 2.0}, True, "at most 2"),
        ({"at_most": 1.99}, False, "at most 1.99"),
        ({"at_least": 2.0}, True, "at least 2"),
        ({"at_least": 2.01}, False, "at least 2.01"),
    ],
)
def test_bounds(bounds: dict, holds: bool, text: str) -> None:
    item = figure("ratio", [2.0], "x", **bounds)
    assert (item.holds, item.bound) == (holds, text)


def test_a_record_holds_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.json"
    figures = [figure("step", [1.0, 2.0], "ms"), figure("ratio", [0.5], "x", at_most=1.0)]
    write_record(path, figures, {"command": "made up", "date": "2026-01-01"})
    assert json.loads(path.read_text())["figures"][1]["at_most"] == 1.0
    assert read_record(path) == ({"command": "made up", "date": "2026-01-01"}, figures)
