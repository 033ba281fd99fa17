"""`qcompile plan --resolve`, and `apply` of a recipe that still says autoquant."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from autoquant.fakes import OPTIONS, FakeTimer
from conftest import DEMO, demo_data

from cli.conftest import Result, command
from qcompile import recipe as recipes
from qcompile.autoquant import resolve as resolving
from qcompile.autoquant.machine import describe
from qcompile.devices import resolve_device

LAYERS = {"include": ["single_transformer_blocks.0.proj_*"]}


def steps(**options: object) -> list[dict]:
    step = {"component": "transformer", "scheme": "autoquant", "layers": LAYERS, "autoquant": OPTIONS | options}
    return [{"quantize": step}, {"compile": {"component": "transformer", "mode": "jit"}}]


@pytest.fixture
def recipe(write_recipe: Callable[..., Path]) -> Path:
    return write_recipe(steps=steps(min_sqnr_db=20))


@pytest.fixture
def cache(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that knows all latencies of these layers, so that no command has to compile."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    path = here / "cache" / "qcompile" / "autoquant.json"
    timer = FakeTimer()
    known = recipes.parse(yaml.safe_dump(demo_data() | {"steps": steps(min_sqnr_db=20)}))
    resolving(known, device="cpu", cache=path, timer=timer)
    assert timer.asked
    return path


def test_stdout_is_the_recipe_alone(cli: Callable[..., Result], recipe: Path, cache: Path) -> None:
    result = cli("plan", "--resolve", recipe, "--device", "cpu")
    assert result.code == 0
    explicit = recipes.parse(result.out)
    assert [step.kind for step in explicit.steps] == ["quantize", "compile"]
    assert explicit.data["steps"][0]["quantize"] == {
        "component": "transformer",
        "scheme": "int8_dynamic",
        "layers": {"include": ["single_transformer_blocks.0.proj_mlp", "single_transformer_blocks.0.proj_out"]},
    }
    comment = [line for line in result.out.splitlines() if line.startswith("#")]
    assert comment[0].startswith("# Resolved by qcompile's autoquant on 20")
    assert comment[1] == f"# Measured on {describe(resolve_device('cpu'))}"
    assert any("288x192 -> 768 bfloat16" in line and "60.0" in line and line.endswith("taken") for line in comment)
    # The measurements are on stderr too, where progress goes.
    assert "capture calls" in result.err
    assert "288x192 -> 768 bfloat16" in result.err
    assert "measure 1/" not in result.err


def test_json(cli: Callable[..., Result], recipe: Path, cache: Path) -> None:
    result = cli("plan", "--resolve", recipe, "--device", "cpu", "--json")
    assert result.err == ""
    (found,) = json.loads(result.out)["resolved"]
    assert recipes.parse(found["yaml"]).data == found["recipe"]
    row = next(row for row in found["measurements"] if row["scheme"] == "int8_dynamic")
    assert row["timing"] == {"median_us": 60.0, "spread_us": 1.0}
    assert row["shape"]["rows"] == 288
    assert row["num_taken"] == row["num_layers"] == 1


def test_another_cache(cli: Callable[..., Result], recipe: Path, here: Path, cache: Path) -> None:
    other = here / "other.json"
    other.write_text(cache.read_text())
    cache.unlink()
    assert cli("plan", "--resolve", recipe, "--device", "cpu", "--cache", other).code == 0
    assert not cache.exists()


def test_a_cache_that_nothing_would_use_is_refused(cli: Callable[..., Result], recipe: Path, here: Path) -> None:
    result = cli("plan", recipe, "--cache", here / "mine.json")
    assert result.code == 2
    assert "mine.json: a plan measures nothing. Add --resolve" in result.complaint


def test_without_resolve_it_says_what_to_do(cli: Callable[..., Result], recipe: Path) -> None:
    for arguments in (("plan", recipe), ("apply", recipe, "--dry-run")):
        result = cli(*arguments)
        assert result.code == 2
        assert "steps.0.quantize.scheme: autoquant" in result.complaint
        assert "`qcompile plan --resolve RECIPE`" in result.complaint


def test_nothing_gained_exits_with_2(
    cli: Callable[..., Result], write_recipe: Callable[..., Path], cache: Path
) -> None:
    result = cli("plan", "--resolve", write_recipe(steps=steps(min_sqnr_db=99)), "--device", "cpu")
    assert result.code == 2
    assert "take the step out" in result.complaint


def test_an_explicit_recipe_stays_as_it_is(cli: Callable[..., Result]) -> None:
    result = cli("plan", "--resolve", DEMO)
    assert result.code == 0
    assert recipes.parse(result.out).data == recipes.read(DEMO).data
    assert result.err == "flux_mini_int8 has no autoquant step: it is explicit already\n"


def test_one_recipe_at_a_time(cli: Callable[..., Result], recipe: Path) -> None:
    result = cli("plan", "--resolve", recipe, DEMO)
    assert result.code == 2
    assert "one recipe, and 2 were named" in result.complaint


def test_validate_knows_it(cli: Callable[..., Result], recipe: Path) -> None:
    assert cli("validate", recipe).code == 0


@pytest.mark.long
def test_the_recipe_is_named_as_the_file_it_goes_to(recipe: Path, here: Path, cache: Path) -> None:
    with (here / "mine.yaml").open("w") as out:
        made = subprocess.run(command("plan", "--resolve", recipe, "--device", "cpu"), stdout=out, check=False)
    assert made.returncode == 0
    assert recipes.read(here / "mine.yaml").name == "mine"
    planned = subprocess.run(command("plan", "mine.yaml"), capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr
    assert "int8_dynamic: 2 modules" in planned.stdout


@pytest.mark.long
def test_apply_resolves_first(cli: Callable[..., Result], recipe: Path, here: Path, cache: Path) -> None:
    result = cli("apply", recipe, "--out", "made", "--device", "cpu")
    assert result.code == 0, result.err
    written = (here / "made" / "recipe.yaml").read_text()
    assert written.startswith("# Resolved by qcompile's autoquant on")
    assert "autoquant:" not in written
    explicit = recipes.parse(written)
    assert explicit.data["steps"][0]["quantize"]["scheme"] == "int8_dynamic"
    manifest = json.loads((here / "made" / "qcompile.json").read_text())
    assert manifest["recipe"]["sha256"] == explicit.digest
    changed = [change["module"] for change in manifest["changes"] if change["action"] == "int8_dynamic"]
    assert changed == explicit.data["steps"][0]["quantize"]["layers"]["include"]
