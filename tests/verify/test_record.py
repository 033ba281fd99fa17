"""A verification as a file, and back."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from qcompile.cli.verify import text
from qcompile.environment import current
from qcompile.errors import ModelError
from qcompile.quality.bounds import Check, Measured
from qcompile.quality.tasks import Task
from qcompile.quality.trajectory import Trajectory
from qcompile.verify.record import read, record_of
from qcompile.verify.report import Arm, Report, Sensitivity, SensitivityTable, Suggestion

REPORT = Report(
    recipe="small",
    recipe_version=2,
    recipe_sha256="a" * 64,
    environment=current("cpu"),
    model="builtin:flux-mini",
    shape="64x64_b1",
    tasks=(Task("a red circle", 0), Task(None, 1)),
    trajectory=Trajectory(),
    original_score_percent=99.0,
    arms=(
        Arm("control", "bfloat16, compiled", Measured({"64x64_b1": 0.01}, {}, (0.01, math.inf), (None, 40.0), (0.99,))),
        Arm("artifact", "small", Measured({"64x64_b1": math.nan}, {}, (0.02,), (30.0,), (), 98.0, 1.0), {"lpips": 0.1}),
    ),
    no_control=None,
    checks=(
        Check("min_psnr_db", math.inf, 30.0, "the PSNR of the image"),
        Check("max_step_error", 0.02, 0.01, "call 1 of 1"),
    ),
    sensitivity=SensitivityTable(0.02, (0,), (Sensitivity("a.*", ("a.0", "a.1"), "int8_dynamic", 0.01, 0.01, 7),)),
    suggestion=Suggestion(
        ("a.*",), ("a.0", "a.1"), 7, {2: "layers: {}\n"}, (Check("max_step_error", 0.01, None, "x"),)
    ),
)


def test_it_is_the_same_after_a_file(tmp_path: Path) -> None:
    record = record_of(REPORT, "qcompile verify small", "2026-01-02")
    path = tmp_path / "v.json"
    path.write_text(record.model_dump_json(indent=1))
    assert read(path) == record
    data = json.loads(path.read_text())  # strict JSON: no NaN, no Infinity
    assert data["holds"] is False
    assert data["arms"][0]["step_errors"] == [0.01, None]
    assert data["arms"][1]["quantized_errors"] == {"64x64_b1": None}
    assert data["arms"][1]["perceptual"] == {"lpips": 0.1}
    assert data["bounds"][0] == {
        "bound": "min_psnr_db",
        "limit": 30.0,
        "value": None,
        "holds": True,
        "where": "the PSNR of the image",
    }
    assert data["sensitivity"]["rows"][0]["layers"] == ["a.0", "a.1"]
    assert data["suggestion"]["fragments"] == {"steps.2": "layers: {}\n"}
    assert record.arm("control") is not None
    assert record.arm("other") is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_layer_whose_error_is_not_finite_does_not_take_what_was_measured(tmp_path: Path, value: float) -> None:
    row = Sensitivity("a.*", ("a.0",), "int8_dynamic", value, value, 7)
    table = SensitivityTable(value, (0,), (row,))
    found = dataclasses.replace(REPORT, sensitivity=table, original_score_percent=None)
    path = tmp_path / "v.json"
    path.write_text(record_of(found, "qcompile verify small", "2026-01-02").model_dump_json())
    table = read(path).sensitivity
    assert (table.error, table.rows[0].adds, table.rows[0].error_without) == (None, None, None)
    assert "mean relative error not finite over calls 1" in text(found)
    (shown,) = (line for line in text(found).splitlines() if line.lstrip().startswith("a.*"))
    assert shown.count("not finite") == 2


def test_bytes_that_are_no_utf8_do_not_take_what_was_measured() -> None:
    odd = "caf\udce9"
    arm = dataclasses.replace(REPORT.arms[1], label=odd)
    checks = (dataclasses.replace(REPORT.checks[0], where=odd),)
    found = dataclasses.replace(REPORT, model=odd, arms=(arm,), checks=checks, no_control=odd, no_suggestion=odd)
    data = json.loads(record_of(found, f"qcompile verify --original {odd}", "2026-01-02").model_dump_json())
    assert data["command"] == "qcompile verify --original caf�"
    assert (data["model"], data["no_control"], data["no_suggestion"]) == ("caf�",) * 3
    assert (data["arms"][0]["label"], data["bounds"][0]["where"]) == ("caf�", "caf�")


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1}'])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(ModelError, match=r"v\.json is no record of `qcompile verify`"):
        read(tmp_path / "v.json")
