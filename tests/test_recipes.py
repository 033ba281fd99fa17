"""Every recipe of the project is well formed, fits its model, is in the catalogue, and says for whom it is."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from autoquant.fakes import FakeTimer
from conftest import RECIPES, ROOT
from report.conftest import verification_data
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
    row = "| [h200](measured/mine.h200.json): 99.7 ms, 1.30 x at 1024x1024_b1; [old](measured/mine.old.json) |"
    assert row in tables.recipe_table(tmp_path)


def of_two_sizes(folder: Path) -> Path:
    """A record whose first size took the artifact's arm more memory than there was: others have a step there."""
    data = json.loads((RECIPES / "measured" / "flux_fp8_row.nvidia-h200.json").read_text(encoding="utf-8"))
    for name in ("measured", "ratios"):
        first = [item for item in data[name] if item["shape"] and "aot" not in (item["arm"], item.get("over"))]
        second = [item | {"shape": "64x48_b1"} for item in data[name] if "jit" not in (item["arm"], item.get("over"))]
        # As if it were twice as fast there, so that nobody takes one for the other.
        for item in second:
            item |= {key: item[key] / 2 for key in ("value", "low", "high")}
        data[name] = [*first, *second]
    path = folder / "mine.two.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_figures_of_a_row_are_of_one_size(tmp_path: Path) -> None:
    of_two_sizes(tmp_path)
    (row,) = [line for line in tables.measured_table(tmp_path).splitlines() if "mine.two" in line]
    cells = [cell.strip() for cell in row.split("|")][2:]
    assert cells[:6] == ["NVIDIA H200", "64x48_b1", "88.5", "66.8", "–", "48.1"]
    assert cells[6:8] == ["0.696", "–"]


def test_a_figure_in_the_catalogue_says_its_size(tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    of_two_sizes(tmp_path / "measured")
    assert tables.measured_of("mine", tmp_path) == "[two](measured/mine.two.json): 48.1 ms, 0.70 x at 64x48_b1"


def test_the_headline_is_of_one_size(tmp_path: Path) -> None:
    text = tables.headline(of_two_sizes(tmp_path))
    assert "at 64x48, recipe" in text
    assert "takes 48 ms, where bfloat16 takes 88 ms eagerly and\n67 ms compiled" in text


def test_the_size_of_a_record_without_steps_of_the_artifact_or_any() -> None:
    record = tables.read_bench(RECIPES / "measured" / "flux_fp8_row.nvidia-h200.json")
    items = [item.model_copy(update={"shape": "1x1_b1"}) for item in record.measured if item.metric != "step"]
    steps = [item.model_copy(update={"shape": "2x2_b1"}) for item in record.measured if item.arm == "eager"]
    assert tables.size_of(record.model_copy(update={"measured": (*items, *steps)})) == "2x2_b1"
    assert tables.size_of(record.model_copy(update={"measured": tuple(items)})) == "1x1_b1"
    assert tables.size_of(record.model_copy(update={"measured": ()})) == ""


def test_a_verification_beside_records_of_bench_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "mine.verify.json").write_text(json.dumps(verification_data()), encoding="utf-8")
    assert tables.measured_of("mine", tmp_path) == "[verify](measured/mine.verify.json)"
    assert tables.measured_table(tmp_path / "measured").count("\n") == 2


def test_a_headline_needs_its_figures() -> None:
    with pytest.raises(ValueError, match="nvidia-h200.json has no steps and starts of eager"):
        tables.headline(RECIPES / "measured" / "flux_fp8.nvidia-h200.json")
