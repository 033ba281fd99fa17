"""What `qcompile bench` makes of its options, and how it ends."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEMO
from test_recipes import tables

from qcompile.bench import arms
from qcompile.bench.record import read
from qcompile.cli import main

QUICK = ["--steps", "1", "--images", "0", "--cold-starts", "0", "--no-limits"]
ARM = ["--arms", "eager_quantized"]


@pytest.mark.parametrize("price", ["inf", "nan", "-1", "0"])
def test_prices_that_are_none(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "nothing", f"--usd-per-hour={price}"]) == 2
    assert f"--usd-per-hour {float(price)}: give a price above 0" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--arms", "--cold-arms"])
@pytest.mark.parametrize("names", ["", " ", " , ,"])
def test_arms_that_are_none(option: str, names: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "nothing", option, names])
    assert f"argument {option}: {names!r} names no arm; name some, or" in " ".join(capsys.readouterr().err.split("\n"))


def test_arms_of_no_fresh_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "nothing", "--cold-arms", "eager,jit", "--cold-starts", "0"]) == 2
    assert "--cold-arms eager,jit: no arm gets fresh processes with --cold-starts 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--images", "-1"], 2, "negative numbers mean nothing"),
        (["--arms", "aot"], 3, "has no packages"),
        (["--out", "somewhere"], 2, "--out goes with a recipe"),
        (["--model", "builtin:flux-mini"], 2, "--set and --model go with a recipe"),
        (["--against", "/nowhere/at/all"], 2, "no such folder"),
        (["--usd-per-hour", "3", "--images", "0"], 2, "costs are those of images, which --images 0 leaves out"),
    ],
)
def test_bad_options(
    eager_artifact: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(eager_artifact), *words]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--arms", "aott"], 2, "--arms aott: there is no such arm; did you mean"),
        (["--arms", "aot_graphs"], 3, "--arms aot_graphs: CUDA graphs need a GPU"),
        (["--arms", "eager", "--cold-arms", "aot"], 2, "--cold-arms aot: not among the arms of this run"),
        (["--against", "/nowhere/at/all"], 2, "no such folder"),
        (["--device", "tpu"], 2, "--device tpu"),
        (["--set", "steps.3.compile.mode=jit", "--arms", "aot"], 3, "no step of the recipe compiles ahead of time"),
    ],
)
def test_bad_options_are_refused_before_a_recipe_is_applied(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    device = [] if "--device" in words else ["--device", "cpu"]
    assert main(["bench", str(DEMO), *device, *words]) == code
    found = capsys.readouterr()
    assert message in found.err
    assert "plan" not in found.err


def test_a_place_that_holds_something_else_is_refused_before_anything_is_measured(
    eager_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = main(["bench", str(eager_artifact), *ARM, *QUICK, "--record", str(tmp_path)]) or next(tmp_path.iterdir())
    name.write_text("{}")
    capsys.readouterr()
    assert main(["bench", str(eager_artifact), *ARM, *QUICK, "--record", str(tmp_path)]) == 2
    found = capsys.readouterr()
    assert f"{name.name} is there and no record of `qcompile bench`" in found.err
    assert "load the arms" not in found.err
    assert name.read_text() == "{}"


def test_the_record_is_written_though_nobody_reads_what_is_printed(eager_artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    words = [sys.executable, "-m", "qcompile.cli", "bench", str(eager_artifact), *ARM, *QUICK, "--record", str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        process.stderr.read()
        assert process.wait(300) != 0
    assert read(path).find("eager_quantized", "step")


@pytest.mark.parametrize("words", [[], ["--record"], ["--record", "measured"], ["--against", "a", "b"]])
def test_nothing_to_measure(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert "Name an artifact or a recipe before the options" in capsys.readouterr().err


@pytest.mark.slow
def test_notes_are_in_the_record(eager_artifact: Path, tmp_path: Path) -> None:
    words = [*ARM, *QUICK, "--note", "one", "--note", "two", "--record", str(tmp_path / "r.json")]
    assert main(["bench", str(eager_artifact), *words]) == 0
    assert read(tmp_path / "r.json").notes[:2] == ("one", "two")


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_note_that_is_no_utf8_is_in_the_record(
    eager_artifact: Path, tmp_path: Path, json_too: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*ARM, *QUICK, "--note", "caf\udce9", "--record", str(tmp_path / "r\udce9.json"), *json_too]
    monkeypatch.setattr(sys, "argv", ["qcompile", "bench", *words])
    with (tmp_path / "out").open("w", encoding="utf-8") as out, contextlib.redirect_stdout(out):
        assert main(["bench", str(eager_artifact), *words]) == 0
    record = read(tmp_path / "r\udce9.json")
    assert record.notes == ("caf�",)
    assert "--note 'caf�'" in record.command
    assert "caf�" in (tmp_path / "out").read_text(encoding="utf-8")


def test_the_record_is_asked_for_before_anything_is_measured(
    eager_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["bench", str(eager_artifact), *QUICK, "--record", str(tmp_path / "file" / "measured")]) == 2
    found = capsys.readouterr()
    assert "--record" in found.err
    assert "Choose another place" in found.err
    assert "warm up" not in found.err


def test_arms_may_be_written_with_spaces_and_twice(eager_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(eager_artifact), *QUICK, "--arms", "eager_quantized, eager_quantized,"]) == 0
    assert capsys.readouterr().out.count("eager_quantized  step") == 1


def test_the_record_and_its_row_in_the_catalogue(
    eager_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", str(eager_artifact), *QUICK, *ARM, "--record", str(tmp_path)]
    assert main(words) == 0
    assert "eager_quantized" in capsys.readouterr().out
    (path,) = tmp_path.glob("flux_mini_int8.cpu-*.json")
    record = read(path)
    assert record.find("eager_quantized", "step").count == 1
    assert f"| [flux_mini_int8](recipes/measured/{path.name}) | {record.processor} |" in tables.measured_table(tmp_path)
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "flux_mini_int8"


def test_an_artifact_after_record_is_what_is_measured(
    eager_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *QUICK, *ARM, "--record", str(eager_artifact)]) == 0
    assert len(list((tmp_path / "recipes" / "measured").glob("flux_mini_int8.*.json"))) == 1


def test_several_artifacts_after_one_against(
    eager_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [str(shutil.copytree(eager_artifact, tmp_path / name)) for name in ("one", "two", "three")]
    words = ["--against", *others[:2], "--against", others[2], "--json"]
    assert main(["bench", str(eager_artifact), *QUICK, *ARM, *words]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {item["arm"] for item in record["measured"] if item["metric"] == "step"} == {
        "eager_quantized",
        "one",
        "two",
        "three",
    }


def test_where_no_arm_gives_anything_it_can_not_be_done_here(
    eager_artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(arms, "load", refuse)
    assert main(["bench", str(eager_artifact), *QUICK, *ARM]) == 3
    found = capsys.readouterr()
    assert "left out: eager_quantized: OSError: the disk is gone" in found.out
    assert "no arm gave anything" in found.err


@pytest.mark.long
def test_an_arm_without_its_compiler_falls_out(eager_artifact: Path, tmp_path: Path) -> None:
    words = ["bench", str(eager_artifact), *QUICK, "--arms", "eager_quantized,jit", "--json"]
    environment = os.environ | {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-m", "qcompile.cli", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert "/nowhere/g++" in record["absent"]["jit, step at 128x128_b1"]
    assert [item["arm"] for item in record["measured"] if item["metric"] == "step"] == ["eager_quantized"]


@pytest.mark.slow
def test_a_recipe_is_applied_first(make_recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from conftest import eager_steps

    path = tmp_path / "mine.yaml"
    path.write_text(make_recipe(steps=eager_steps(), name="mine").to_yaml())
    assert main(["bench", str(path), *QUICK, *ARM, "--json"]) == 0
    found = {item["metric"] for item in json.loads(capsys.readouterr().out)["measured"] if item["arm"] == "build"}
    assert {"quantize transformer", "write weights"} <= found
