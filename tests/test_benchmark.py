"""The benchmark measures what it says. Its bounds are not tested here: timed tests fail on busy machines."""

from pathlib import Path

import pytest
from conftest import DEMO, RECIPES

from qcompile import benchmark
from qcompile.figures import figure, read_record


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        benchmark.main(["speed"])
    assert caught.value.code == 2
    assert "no part is called 'speed'; there is commands, build" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "code", "word"), [(0.5, 0, "holds"), (1.5, 1, "MISSED")])
def test_a_missed_bound_is_said_and_exits_with_1(
    value: float,
    code: int,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(benchmark, "command_figures", lambda recipe, runs: [figure("help", [value], "s", at_most=1.0)])
    assert benchmark.main(["commands", "--record", str(tmp_path / "record.json")]) == code
    assert word in capsys.readouterr().out
    about, figures = read_record(tmp_path / "record.json")
    assert about["environment"]["device"] == "cpu"
    assert figures[0].value == value


def test_a_command_that_fails_is_not_a_figure(tmp_path: Path) -> None:
    with pytest.raises(benchmark.subprocess.CalledProcessError):
        benchmark._run(["validate", str(tmp_path / "nothing.yaml")])


@pytest.mark.long
def test_every_part_that_needs_an_artifact_runs(compiled_artifact: Path) -> None:
    loaded = {item.name: item for item in benchmark.load_figures(compiled_artifact, runs=1)}
    assert loaded["packages for one shape"].holds
    assert loaded["first step / steady step"].value > 0
    steps = {item.name: item for item in benchmark.step_figures(compiled_artifact, rounds=2)}
    assert steps["step, aot / jit"].count == 2
    quality = {item.name: item for item in benchmark.quality_figures(compiled_artifact, count=4)}
    assert quality["background colour, original"].value == 100.0


def test_the_committed_record_has_a_row_for_each_target() -> None:
    _, figures = read_record(RECIPES / "measured" / f"{DEMO.stem}.cpu.json")
    assert all(item.holds for item in figures)
    assert sum(bool(item.bound) for item in figures) == 15
