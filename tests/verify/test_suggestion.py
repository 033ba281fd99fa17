"""Sensitivities, and suggestions that are pasted into the recipe and applied."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from qcompile.artifact.read import read_artifact
from qcompile.cli.verify import text
from qcompile.errors import PlanError
from qcompile.verify.record import record_of
from qcompile.verify.report import Report
from qcompile.verify.sensitivity import role
from qcompile.verify.verification import Request, verify
from verify.conftest import make, short

QUANTIZE = {"component": "transformer", "scheme": "int8_dynamic"}


def suggested(artifact: Path, part: float, each: bool = False) -> tuple[Report, float]:
    """A report with suggestions for a part of the artifact's own worst step error, and that bound."""
    bound = part * max(read_artifact(artifact).manifest.verification.step_relative_error)
    request = Request(control=False, suggest=True, each=each)
    return verify(artifact, num_prompts=1, request=request, bounds={"max_step_error": bound}), bound


@pytest.mark.parametrize("each", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["roles", "each"])
def test_a_suggestion_pasted_into_the_recipe_meets_the_bound(small_artifact: Path, tmp_path: Path, each: bool) -> None:
    found, bound = suggested(small_artifact, 0.8, each)
    assert not found.holds
    assert found.suggestion is not None
    assert list(found.suggestion.fragments) == [2]
    data = copy.deepcopy(short(verify={"max_step_error": bound}))
    before = data["steps"][2]["quantize"]["layers"]
    pasted = yaml.safe_load(found.suggestion.fragments[2])
    assert pasted["layers"]["exclude"][: len(before["exclude"])] == before["exclude"]
    assert {**pasted["layers"], "exclude": before["exclude"]} == before
    data["steps"][2]["quantize"] |= pasted
    manifest = read_artifact(make(data, tmp_path / "a")).manifest
    # apply raised nothing: the bound holds. What was excluded is what the suggestion says, and not everything.
    left = {change.module for change in manifest.changes if change.kind == "quantize" and change.action}
    quantized = {layer for row in found.sensitivity.rows for layer in row.layers}
    assert left == quantized - set(found.suggestion.layers)
    assert left
    (expected,) = [check.value for check in found.suggestion.checks if check.bound == "max_step_error"]
    assert max(manifest.verification.step_relative_error) == pytest.approx(expected)


@pytest.mark.slow
def test_a_step_that_chose_by_default_keeps_its_choice(tmp_path: Path) -> None:
    data = short(steps=[{"quantize": QUANTIZE}])
    artifact = make(data, tmp_path / "a")
    found, bound = suggested(artifact, 0.8)
    pasted = copy.deepcopy(data) | {"verify": {"max_step_error": bound}}
    pasted["steps"][0]["quantize"] |= yaml.safe_load(found.suggestion.fragments[0])
    changes = read_artifact(make(pasted, tmp_path / "b")).manifest.changes
    chosen = {change.module for change in read_artifact(artifact).manifest.changes if change.action}
    assert {change.module for change in changes if change.action} == chosen - set(found.suggestion.layers)


@pytest.mark.slow
def test_a_bound_that_leaves_nothing_quantized(tmp_path: Path) -> None:
    artifact = make(short(steps=[{"quantize": QUANTIZE}]), tmp_path / "a")
    found, _ = suggested(artifact, 1e-4)
    chosen = {change.module for change in read_artifact(artifact).manifest.changes if change.action}
    assert set(found.suggestion.layers) == chosen
    assert found.suggestion.emptied == (0,)
    assert found.suggestion.fragments == {}
    assert "steps.0 would have no layer left: take it out, or widen the bound" in text(found)


def test_a_bound_that_holds_needs_nothing(small_artifact: Path) -> None:
    found, _ = suggested(small_artifact, 1.01)
    assert found.suggestion.excluded == ()
    assert found.suggestion.fragments == {}


def test_a_suggestion_needs_a_bound(small_artifact: Path) -> None:
    with pytest.raises(PlanError, match="--suggest: there is no bound to meet"):
        verify(small_artifact, request=Request(control=False, suggest=True))


def test_a_bound_that_no_choice_meets(tmp_path: Path) -> None:
    # Another component is quantized too, and no choice of the denoiser's layers changes what that does to the image.
    encoder = {"component": "text_encoder_2", "scheme": "int8_weight_only", "layers": {"include": ["encoder.**"]}}
    artifact = make(short(steps=[{"quantize": encoder}, {"quantize": QUANTIZE}]), tmp_path / "a")
    found = verify(artifact, num_prompts=1, request=Request(control=False, suggest=True), bounds={"min_psnr_db": 200})
    assert re.match(r"verify.min_psnr_db: .* even with every layer at its original weights", found.no_suggestion)
    assert found.suggestion is None
    assert not found.holds
    # What tells which bound could be met is there all the same.
    assert found.sensitivity.rows
    assert record_of(found, "typed", "2026-11-25").no_suggestion == found.no_suggestion
    assert f"nothing to suggest: {found.no_suggestion}" in text(found)


def test_sensitivities_are_those_of_layers_put_back(small_artifact: Path) -> None:
    table = verify(small_artifact, num_prompts=1, request=Request(control=False, sensitivity=True)).sensitivity
    errors = read_artifact(small_artifact).manifest.verification.step_relative_error
    assert table.calls == (0, 1, 2)
    assert table.error == pytest.approx(sum(errors) / 3)
    assert [row.adds for row in table.rows] == sorted((row.adds for row in table.rows), reverse=True)
    assert table.rows[0].adds > 0
    assert all(row.adds == pytest.approx(table.error - row.error_without) for row in table.rows)
    assert all(row.bytes_saved > 0 for row in table.rows)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("transformer_blocks.3.ff.net.2", "transformer_blocks.*.ff.net.2"),
        ("down.1.blocks.0.to_out.0", "down.*.blocks.*.to_out.0"),
        ("proj_out", "proj_out"),
        ("transformer_blocks.30.ff", "transformer_blocks.30.ff"),
    ],
)
def test_role(name: str, expected: str) -> None:
    assert role(name, ("transformer_blocks.3", "down.1.blocks.0")) == expected
