"""Tables: what they say, and that they are whole."""

import dataclasses

import pytest

from qcompile.report import facts, quality
from qcompile.report.content import Content, gather
from qcompile.report.layers import layer_map
from qcompile.report.table import Column, table
from report.conftest import ARTIFACT


def test_rows_have_a_cell_for_each_column() -> None:
    assert table(["a", Column("b", "number")], [("1", "2")]).columns[0] == Column("a", "text")
    with pytest.raises(ValueError, match="2 columns, but a row of 1"):
        table(["a", "b"], [("1",)])


def test_environments_that_are_the_same_share_a_column(full: Content) -> None:
    shown = facts.environments(full)
    # The sample's verification was made on the machine of its record.
    assert [column.title for column in shown.columns] == ["", "made on", "measured and verified on"]
    rows = {row[0]: row[1:] for row in shown.rows}
    assert rows["torch"] == ("2.13.0+cpu", "2.11.0+cu130")
    assert rows["GPU"] == ("–", "NVIDIA H200")
    assert rows["cores, where measured"] == ("–", "16")
    alone = facts.environments(gather(ARTIFACT))
    assert [column.title for column in alone.columns] == ["", "made on"]
    assert "GPU" not in {row[0] for row in alone.rows}


def test_three_environments_in_one_column(full: Content) -> None:
    assert full.bench is not None
    assert full.verification is not None
    here = full.manifest.environment
    same = dataclasses.replace(
        full,
        bench=full.bench.model_copy(update={"environment": here}),
        verification=full.verification.model_copy(update={"environment": here}),
    )
    shown = facts.environments(same)
    assert [column.title for column in shown.columns] == ["", "made, measured and verified on"]
    assert ("cores, where measured", "16") in shown.rows


def test_layers_that_were_left_alone_say_why() -> None:
    (component, shown), *_ = facts.layers(layer_map(gather(ARTIFACT).manifest.changes)).items()
    assert component == "transformer"
    rows = {row[0]: row[1:] for row in shown.rows}
    assert rows["x_embedder"] == ("1", "no: outside the repeated blocks", "64", "16 → 16", "512 bytes")
    assert rows["single_transformer_blocks.{0..1}.proj_out"] == ("2", "int8_dynamic", "72", "80 → 16", "5.12 → 2.72 kB")


def test_quality_stands_beside_its_control(full: Content) -> None:
    assert full.verification is not None
    shown = quality.figures(full.verification)
    assert [column.title for column in shown.columns] == [
        "",
        "control: bfloat16, compiled",
        "artifact: pipeline-int8_dynamic",
    ]
    rows = {row[0]: row[1:] for row in shown.rows}
    assert rows["relative error, first call, 32x32_b1"] == ("0.004", "0.02")
    assert rows["relative error along the trajectory, median"] == ("0.0055", "0.0275")
    # A call whose error is not finite is the worst one.
    assert rows["relative error along the trajectory, worst"] == ("not finite", "not finite")
    assert rows["PSNR of 2 images, least"] == ("41.5 dB", "41.5 dB")
    assert rows["lpips"] == ("0.012", "0.012")
    assert rows["images that show what their caption says (original: 99.5 %)"] == ("99.0 %", "99.0 %")


def test_figures_that_one_arm_lacks(full: Content) -> None:
    assert full.verification is not None
    control, artifact = full.verification.arms
    same = control.model_copy(update={"psnr_db": (None, None), "ssim": (), "perceptual": {}})
    shown = quality.figures(full.verification.model_copy(update={"arms": (same, artifact)}))
    rows = {row[0]: row[1:] for row in shown.rows}
    assert rows["PSNR of 2 images, median"][0] == "the same image"
    assert rows["lpips"] == ("–", "0.012")


def test_bounds_say_whether_they_hold(full: Content) -> None:
    assert full.verification is not None
    shown = [(row[0], *row[2:]) for row in quality.bounds(full.verification).rows]
    assert shown == [
        ("verify.max_relative_error", "at most 0.05", "0.02", "holds"),
        ("verify.max_step_error", "at most 0.01", "0.03", "missed"),
        ("verify.min_psnr_db", "at least 30.0", "infinite", "holds"),
    ]
