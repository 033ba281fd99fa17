"""`qcompile profile`: what it prints, and what it refuses before any work is done."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cli.conftest import Result, command, everything, run_process
from qcompile import loader
from qcompile.cli.profile import text
from qcompile.environment import current
from qcompile.profiler.breaks import GraphBreak, Recompilation, Tracing
from qcompile.profiler.kernels import Group, Kernel
from qcompile.profiler.record import Recording
from qcompile.profiler.run import Profile
from qcompile.profiler.syncs import Synchronization


def test_the_table(cli: Callable[..., Result], eager_artifact: Path) -> None:
    result = cli("profile", eager_artifact, "--steps", 1)
    assert result.code == 0
    assert result.out.startswith("flux_mini_int8, eager, cpu, 128x128_b1: ")
    lines = [line.split() for line in result.out.splitlines() if line]
    assert {"matmul", "attention", "quantization", "normalization", "copies"} <= {words[0] for words in lines}
    total = sum(float(words[2].rstrip("%")) for words in lines if len(words) > 4 and words[2].endswith("%"))
    assert total <= 100.5
    assert "outside of kernels" in result.out


def test_json(cli: Callable[..., Result], here: Path, eager_artifact: Path) -> None:
    result = cli("profile", eager_artifact, "--steps", 2, "--trace", "t.json.gz", "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert found["trace"] == "t.json.gz"
    assert found["num_steps"] == 2
    assert found["groups"][0]["costliest"][0].keys() == {"name", "group", "count", "ms"}
    assert found["synchronizations"] is None
    assert everything(here) == {"t.json.gz"}


@pytest.mark.parametrize(
    ("arguments", "piece"),
    [
        (("nowhere",), "nowhere: there is no such folder"),
        (("nowhere.yaml",), "nowhere.yaml"),
        (("ARTIFACT", "--steps", 0), "argument --steps: '0' is no whole number from 1 up"),
        (("ARTIFACT", "--steps", "few"), "argument --steps: 'few'"),
        (("ARTIFACT", "--trace", "no/t.json"), "--trace no/t.json: there is no folder no. Make it"),
        (("ARTIFACT", "--trace", "old.json"), "--trace old.json exists and is left alone. Add --overwrite"),
        (("ARTIFACT", "--trace", "t.txt"), "--trace t.txt: a trace is JSON. Call it NAME.json"),
        (("ARTIFACT", "--trace", "folder.json", "--overwrite"), "--trace folder.json is a folder"),
        (("ARTIFACT", "--set", "version=2"), "--set and --model change a recipe"),
        (("ARTIFACT", "--device", "tpu"), "--device tpu"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_input(
    cli: Callable[..., Result], here: Path, eager_artifact: Path, arguments: tuple[object, ...], piece: str
) -> None:
    (here / "old.json").write_text("kept")
    (here / "folder.json").mkdir()
    before = everything(here)
    result = cli("profile", *(eager_artifact if word == "ARTIFACT" else word for word in arguments))
    assert result.code == 2
    assert piece in result.complaint
    assert everything(here) == before
    assert (here / "old.json").read_text() == "kept"


def test_a_device_that_is_not_there(cli: Callable[..., Result], eager_artifact: Path) -> None:
    result = cli("profile", eager_artifact, "--device", "cuda:99")
    assert result.code == 3
    assert "--device cuda:99: this machine has" in result.complaint


def test_a_broken_artifact(cli: Callable[..., Result], here: Path, eager_artifact: Path) -> None:
    shutil.copytree(eager_artifact, here / "broken")
    (here / "broken" / "recipe.yaml").write_text("name: other")
    result = cli("profile", "broken", "--trace", "t.json")
    assert result.code == 2
    assert "recipe.yaml" in result.complaint
    assert not (here / "t.json").exists()


@pytest.mark.slow
def test_packages_of_another_machine(
    cli: Callable[..., Result], compiled_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = replace(current("cpu"), torch="1.0.0")
    monkeypatch.setattr(loader, "current", lambda device: elsewhere)
    result = cli("profile", compiled_artifact, "--steps", 1)
    assert result.code == 3
    assert "here 1.0.0" in result.complaint
    assert result.complaint.endswith("On the command line: --eager, which opens no package.")
    assert cli("profile", compiled_artifact, "--steps", 1, "--eager").code == 0


def test_a_trace_is_replaced_on_demand(cli: Callable[..., Result], here: Path, eager_artifact: Path) -> None:
    (here / "t.json").write_text("old")
    assert cli("profile", eager_artifact, "--steps", 1, "--trace", "t.json", "--overwrite").code == 0
    assert json.loads((here / "t.json").read_text())["traceEvents"]


def test_interrupted(
    cli: Callable[..., Result], here: Path, eager_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qcompile.profiler import run

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "record", stop)
    result = cli("profile", eager_artifact, "--trace", "t.json")
    assert result.code == 130
    assert "Traceback" not in result.err
    assert everything(here) == set()


@pytest.mark.slow
def test_stdout_and_stderr_of_a_process(here: Path, eager_artifact: Path) -> None:
    """The profiler and torch write past Python's streams; nothing of theirs arrives."""
    result = run_process(command("profile", eager_artifact, "--steps", 1, "--json"), here)
    assert result.code == 0, result.err
    assert json.loads(result.out)["mode"] == "eager"
    assert result.err == ""


def test_findings_are_told_with_what_to_do() -> None:
    kernel = Kernel("nvjet_" + "x" * 200, "matmul", 4, 8.0)
    found = Profile(
        label="made_up",
        mode="torch.compile",
        device="cuda:0",
        shape="128x128_b1",
        recording=Recording(2, 6.0, 7.0, (Group("matmul", 4, 8.0, (kernel,)),)),
        tracing=Tracing(
            2,
            3,
            (GraphBreak("m.py:7", "forward", "if x > 0:", "a branch", 2, "use torch.where"),),
            (Recompilation("m.py:5", "Block.forward", "64x64_b1", "size mismatch", "declare it"),),
        ),
        synchronizations=(
            Synchronization("s.py:9", "step", "x.item()", 5, True, "keep it"),
            Synchronization("t.py:3", "end", "x.cpu()", 1, False, "leave it"),
        ),
        num_pipeline_steps=5,
        notes=("a note",),
        advice=("an advice",),
        trace=None,
    )
    assert found.outside_ms == 2.0
    shown = text(found)
    for piece in (
        "graph breaks (2 graphs)\n  - m.py:7 in forward (x2): a branch\n      if x > 0:\n      -> use torch.where",
        "recompilations (1 of 3 compilations)\n  - m.py:5 Block.forward, for 64x64_b1: size mismatch\n      -> declare it",
        "synchronizations in a call of 5 steps\n  - s.py:9 in step (x5, every step)\n      x.item()\n      -> keep it\n"
        "  - t.py:3 in end (x1): leave it",
        "note\n  - a note",
        "to do\n  - an advice",
    ):
        assert piece in shown
    assert max(map(len, shown.splitlines())) < 160
