"""`qcompile verify`: the table, the document, exit codes, and what it refuses."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from verify.test_record import REPORT

from cli.conftest import Result, everything
from qcompile.artifact.read import read_artifact
from qcompile.cli import main
from qcompile.verify import verification
from qcompile.verify.record import read

CALL = {"prompt": "a red circle on a blue background", "num_inference_steps": 2, "max_sequence_length": 32}


@pytest.fixture
def artifact(cli: Callable[..., Result], write_recipe: Callable[..., Path]) -> Path:
    result = cli("apply", write_recipe(call=CALL, verify={}))
    assert result.code == 0
    assert "without a control; `qcompile verify small` has one" in result.out
    return Path("small")


def test_the_table_and_the_record(cli: Callable[..., Result], artifact: Path) -> None:
    result = cli("verify", artifact, "--no-control", "--prompts", 1, "--sensitivity", "--record", "out/v.json")
    assert result.code == 0
    for piece in ("step median", "SSIM", "no control: left out", "verify.max_step_error", "adds"):
        assert piece in result.out
    data = json.loads(Path("out/v.json").read_text())
    (arm,) = data["arms"]
    assert len(arm["step_errors"]) == 2
    assert f"{max(arm['step_errors']):.4f}" in result.out
    assert data["holds"] is True
    assert data["suggestion"] is None
    record = read(Path("out/v.json"))
    assert record.recipe_sha256 == read_artifact(artifact).manifest.recipe.sha256
    assert record.no_control == "left out"
    page = cli("report", artifact, "--verified", "out/v.json")
    assert page.code == 0
    assert "no bench record" in page.out


def test_a_missed_bound_ends_with_1_and_a_suggestion(cli: Callable[..., Result], artifact: Path) -> None:
    plain = cli("verify", artifact, "--no-control", "--prompts", 1, "--json")
    assert plain.err == ""
    bound = 0.9 * max(json.loads(plain.out)["arms"][0]["step_errors"])
    arguments = ("verify", artifact, "--no-control", "--prompts", 1, "--suggest", "--bound", f"max_step_error={bound}")
    shown = cli(*arguments)
    assert shown.code == 1
    assert "MISSED" in shown.out
    _, _, fragment = shown.out.partition("in place of `layers` of steps.2:\n\n")
    found = cli(*arguments, "--json")
    assert found.code == 1
    data = json.loads(found.out)
    assert data["holds"] is False
    assert yaml.safe_load(fragment) == yaml.safe_load(data["suggestion"]["fragments"]["steps.2"])


@pytest.mark.parametrize(
    ("arguments", "piece"),
    [
        (("--bound", "max_stp_error=1"), "no bound is called 'max_stp_error'; did you mean 'max_step_error'?"),
        (("--bound", "min_ssim=2"), "'min_ssim=2': write KEY=NUMBER"),
        (("--bound", "min_ssim=nan"), "'min_ssim=nan': write KEY=NUMBER"),
        (("--bound", "max_step_error=inf"), "'max_step_error=inf': write KEY=NUMBER"),
        (("--prompts", "0"), "'0' is no whole number from 1 up"),
    ],
)
def test_arguments_that_are_wrong(cli: Callable[..., Result], here: Path, arguments: tuple, piece: str) -> None:
    result = cli("verify", "somewhere", *arguments)
    assert result.code == 2
    assert piece in result.complaint
    assert everything(here) == set()


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_model_whose_name_is_no_utf8(tmp_path: Path, json_too: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = dataclasses.replace(REPORT, model="caf\udce9", original_score_percent=None)
    monkeypatch.setattr(verification, "verify", lambda *_, **__: found)
    record = tmp_path / "v.json"
    with (tmp_path / "out").open("w", encoding="utf-8") as out, contextlib.redirect_stdout(out):
        assert main(["verify", "small", "--record", str(record), *json_too]) == 1
    assert read(record).model == "caf�"
    assert "caf�" in (tmp_path / "out").read_text(encoding="utf-8")


def test_what_is_no_artifact(cli: Callable[..., Result], here: Path) -> None:
    result = cli("verify", "nothing")
    assert result.code == 2
    assert "there is no such folder" in result.complaint


def test_metrics_that_can_not_be_had(cli: Callable[..., Result], artifact: Path) -> None:
    Path("empty").mkdir()
    result = cli("verify", artifact, "--clip", "empty")
    assert result.code == 2
    assert "--clip empty: no config.json there" in result.complaint
    if find_spec("torchmetrics") is None:
        result = cli("verify", artifact, "--lpips")
        assert result.code == 3
        assert "--lpips needs torchmetrics" in result.complaint


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("file/v.json", "file/v.json: nothing can be written under file"),
        ("folder", "folder is a folder"),
        ("mine.yaml", "mine.yaml is there and no record of `qcompile verify`"),
        ("made/qcompile.json", "made/qcompile.json: /"),
        ("made/deep/v.json", "made/deep/v.json: "),
        ("/dev/full", "/dev/full is there and no record"),
    ],
)
def test_a_place_that_is_not_for_records(cli: Callable[..., Result], here: Path, record: str, message: str) -> None:
    Path("file").touch()
    Path("mine.yaml").write_text("name: mine\n")
    for folder in ("folder", "made"):
        Path(folder).mkdir()
    Path("made/qcompile.json").write_text("{}")
    result = cli("verify", "nothing", "--record", record)
    assert result.code == 2
    assert f"--record {message}" in result.complaint
    assert Path("mine.yaml").read_text() == "name: mine\n"
    assert Path("made/qcompile.json").read_text() == "{}"
    assert sorted(path.name for path in Path().iterdir()) == ["file", "folder", "made", "mine.yaml"]
    cli("verify", "nothing", "--record", "new/deep/v.json")
    assert not Path("new").exists()
