"""`qcompile plan`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DEMO

from cli.conftest import Result, command, everything, run_process


def test_blocks_share_a_line(cli: Callable[..., Result]) -> None:
    result = cli("plan", DEMO)
    assert result.code == 0
    assert result.err == ""
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0][0] == "flux_mini_int8"
    layer = next(line for line in lines if line and line[0].endswith(".attn.to_qkv") and "int8_dynamic" in line)
    assert layer[0].startswith("transformer_blocks.{0..")
    assert layer[1].startswith("x")


def test_reasons_and_totals(cli: Callable[..., Result]) -> None:
    brief = cli("plan", DEMO).out
    assert "left alone: " in brief
    assert "excluded by **.norm*.**" in brief
    assert "x_embedder" not in brief
    assert brief.splitlines()[-1].startswith("total")
    assert "%" in brief.splitlines()[-1]
    everyone = cli("plan", DEMO, "--all").out
    assert any(line.split()[0] == "x_embedder" for line in everyone.splitlines() if line.strip())
    assert "left alone: not included" in everyone


def test_json_is_one_document_with_every_module(cli: Callable[..., Result]) -> None:
    result = cli("plan", DEMO, "--json")
    (plan,) = json.loads(result.out)["plans"]
    assert plan["recipe"] == "flux_mini_int8"
    assert plan["obstacles"] == []
    assert plan["bytes_after"] == sum(component["after"] for component in plan["components"])
    assert plan["bytes_after"] < plan["bytes_before"]
    modules = [change["module"] for change in plan["changes"] if change["action"] == "int8_dynamic"]
    assert "transformer_blocks.0.attn.to_qkv" in modules
    assert result.err == ""


def test_several_recipes_and_an_override(cli: Callable[..., Result], write_recipe: Callable[..., Path]) -> None:
    first, second = write_recipe("first"), write_recipe("second")
    result = cli("plan", first, second, "--set", "steps.2.quantize.scheme=int8_weight_only", "--json")
    plans = json.loads(result.out)["plans"]
    assert [plan["recipe"] for plan in plans] == ["first", "second"]
    for plan in plans:
        assert {change["action"] for change in plan["changes"] if change["kind"] == "quantize"} == {
            "int8_weight_only",
            None,
        }


def test_rows_of_every_shape_are_shown(cli: Callable[..., Result], write_recipe: Callable[..., Path]) -> None:
    path = write_recipe(shapes=[{"height": 128, "width": 128}, {"height": 96, "width": 96, "batch": 2}])
    result = cli("plan", path)
    assert "shapes 128x128_b1, 96x96_b2" in result.out
    assert any(", " in line and "int8_dynamic" in line for line in result.out.splitlines())


def test_what_this_machine_cannot_do_is_a_warning(
    cli: Callable[..., Result], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No GPU here refuses a scheme of the table, so one of its rows is made pickier.
    import dataclasses

    from qcompile.schemes import SCHEMES

    monkeypatch.setitem(SCHEMES, "int8_dynamic", dataclasses.replace(SCHEMES["int8_dynamic"], devices=("cuda",)))
    result = cli("plan", DEMO, "--device", "cpu")
    assert result.code == 0
    assert "WARNING: this machine can't apply the recipe.\n  steps.2.quantize.scheme: int8_dynamic runs on cuda" in (
        result.out
    )
    before = everything(here)
    for arguments in (("apply", DEMO), ("apply", DEMO, "--dry-run", "--json")):
        refused = cli(*arguments, "--device", "cpu")
        assert refused.code == 3
        assert "int8_dynamic runs on cuda, not on cpu" in refused.complaint
    assert cli("apply", DEMO, "--dry-run", "--device", "cpu").code == 3
    assert everything(here) == before


def test_a_process_of_its_own_says_nothing_else(tmp_path: Path) -> None:
    result = run_process(command("plan", DEMO), tmp_path)
    assert result.err == ""
    assert result.code == 0
