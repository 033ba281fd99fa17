"""Every recipe of the project is well formed, fits its model, is in the catalogue, and says for whom it is."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from autoquant.fakes import FakeTimer
from conftest import RECIPES, ROOT
from test_format import load_script

from qcompile import recipe as recipes
from qcompile.autoquant import resolve
from qcompile.planner import plan
from qcompile.schemes import SCHEMES
from qcompile.steps import STEPS

tables = load_script(RECIPES / "tables.py")
ALL = sorted(RECIPES.glob("*.yaml"))
FILES = ALL
MODELINE = "# yaml-language-server: $schema=../serialization/recipe.schema.json"
BUILTIN = [path for path in FILES if "builtin:" in path.read_text(encoding="utf-8")]

each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@each
def test_is_well_formed(path: Path) -> None:
    recipe = recipes.read(path)
    assert recipe.name == path.stem
    assert recipe.header.summary
    assert recipe.header.call["prompt"]
    assert recipe.header.shapes
    assert recipe.header.verify.max_relative_error is not None


@each
def test_begins_with_for_whom_it_is_and_where_its_schema_is(path: Path) -> None:
    audience, modeline, first = path.read_text(encoding="utf-8").splitlines()[:3]
    assert re.fullmatch(r"# For .{20,}\.", audience)
    assert modeline == MODELINE
    assert (path.parent / modeline.partition("$schema=")[2]).resolve().is_file()
    assert first == f"name: {path.stem}"


@each
def test_is_complete_in_itself(path: Path) -> None:
    """Anchors, merges and includes would make a reader look elsewhere; the file says everything once."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert data == recipes.read(path).data
    assert {"name", "version", "summary", "model", "call", "shapes", "steps", "verify"} == data.keys()


@pytest.mark.parametrize("path", BUILTIN, ids=lambda path: path.stem)
def test_fits_its_model(path: Path, tmp_path: Path) -> None:
    timer = FakeTimer()  # where autoquant decides, as if all schemes gained
    planned = plan(resolve(recipes.read(path), device="cpu", cache=tmp_path / "c", timer=timer).recipe, device="cpu")
    assert planned.obstacles == ()
    assert planned.bytes_after < planned.bytes_before
    for index, _ in enumerate(planned.recipe.steps):
        assert any(change.action for change in planned.changes if change.step == index)


def test_the_flux_recipe_fits_the_architecture() -> None:
    """Its own configurations are on the Hub; the embedded model is the same classes with fewer blocks."""
    overrides = ['shapes=[{"height": 128, "width": 128}]', "call.max_sequence_length=32"]
    recipe = recipes.read(RECIPES / "flux_int8.yaml", overrides, model="builtin:flux-mini")
    planned = plan(recipe, device="cpu")
    quantized = [change.module for change in planned.changes if change.kind == "quantize" and change.action]
    assert len(quantized) > 10
    assert not any("norm" in name for name in quantized)


def test_catalogue_is_up_to_date() -> None:
    text = (RECIPES / "README.md").read_text(encoding="utf-8")
    assert tables.renewed(text) == text, "out of date; run: make generated"
    for path in FILES:
        assert f"[{path.stem}]({path.name})" in text


def test_readme_tables_are_up_to_date() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tables.renewed(text) == text, "out of date; run: make generated"
    for name in (*SCHEMES, *(step.kind for step in STEPS)):
        assert f"| `{name}` |" in text


def test_a_stale_table_is_noticed() -> None:
    text = "before\n<!-- table: schemes -->\n| old |\n<!-- end -->\nafter\n"
    renewed = tables.renewed(text)
    assert renewed != text
    assert "| old |" not in renewed
    assert renewed.startswith("before\n<!-- table: schemes -->\n| scheme |")
    assert renewed.endswith("<!-- end -->\nafter\n")
    assert tables.renewed(renewed) == renewed


def test_a_new_recipe_comes_into_the_catalogue(tmp_path: Path) -> None:
    text = FILES[0].read_text(encoding="utf-8").replace(FILES[0].stem, "mine").replace("summary: ", "summary: a|b ")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    table = tables.recipe_table(tmp_path)
    assert table.count("\n") == 3
    assert "[mine](mine.yaml)" in table
    assert "a\\|b" in table
    assert "| not yet |" in table
    (tmp_path / "measured").mkdir()
    shutil.copy(RECIPES / "measured" / "flux_fp8.nvidia-h200.json", tmp_path / "measured" / "mine.h200.json")
    (tmp_path / "measured" / "mine.old.json").write_text("{}")
    row = "| [h200](measured/mine.h200.json): 99.7 ms, 1.30 x; [old](measured/mine.old.json) |"
    assert row in tables.recipe_table(tmp_path)


def test_a_headline_needs_its_figures() -> None:
    with pytest.raises(ValueError, match="nvidia-h200.json has no steps and starts of eager"):
        tables.headline(RECIPES / "measured" / "flux_fp8.nvidia-h200.json")
