"""A benchmark that ends before it is done, by Ctrl-C, a signal or an error: what is kept, and what is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from qcompile.bench import images, run
from qcompile.bench.found import Found
from qcompile.bench.record import read
from qcompile.bench.run import Options, bench
from qcompile.bench.timing import Rounds, Timed, time_in_turn
from qcompile.cli import bench as command
from qcompile.cli import main

QUICK = {"rounds": 2, "images": 0, "cold_starts": 0, "limits": False}
WORDS = ["--steps", "1", "--images", "0", "--cold-starts", "0", "--no-limits"]
ARM = ["--arms", "eager_quantized"]
BOTH = ("eager", "eager_quantized")
ONE = "128x128_b1"
SOME_ROUNDS_S = 10
"""A round takes 50 ms, and a second where other tests have the processors."""


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_interrupted_what_was_measured_is_kept(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "time_images", interrupt)
    options = Options(arms=("eager_quantized",), **(QUICK | {"images": 1}))
    record, interrupted = bench(eager_artifact, options, "typed")
    assert interrupted
    assert record.find("eager_quantized", "step").count == 2
    assert "interrupted" in record.notes[0]


def test_an_error_does_not_take_what_was_measured(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AttributeError("'AudioPipelineOutput' object has no attribute 'frames'")

    monkeypatch.setattr(run, "time_images", fail)
    options, kept = Options(arms=("eager_quantized",), **(QUICK | {"images": 1})), []
    with pytest.raises(AttributeError, match="no attribute 'frames'"):
        bench(eager_artifact, options, "typed", broken=kept.append)
    (record,) = kept
    assert record.find("eager_quantized", "step").count == 2
    assert record.notes[0].startswith("ended by AttributeError ('AudioPipelineOutput' object has no attribute")


@pytest.mark.parametrize("module", [run, images], ids=["steps", "images"])
def test_an_error_in_a_round_does_not_take_the_rounds_before_it(
    eager_artifact: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    """It may be torchao's, and no fault of an arm by our list."""

    def fail_in_the_third(arms: dict[str, Timed], rounds: int, warm_up: int, *rest: object) -> Rounds:
        calls: list[str] = []

        def call(name: str) -> None:
            calls.append(name)
            assert calls.count(name) < warm_up + 3, "unexpected layout"

        return time_in_turn({name: Timed(partial(call, name)) for name in arms}, 50, warm_up, *rest)

    monkeypatch.setattr(module, "time_in_turn", fail_in_the_third)
    options, kept = Options(arms=BOTH, **(QUICK | {"images": 1})), []
    with pytest.raises(AssertionError, match="unexpected layout"):
        bench(eager_artifact, options, "typed", broken=kept.append)
    (record,) = kept
    metric = {run: "step", images: "image"}[module]
    assert [record.find(arm, metric).count for arm in BOTH] == [2, 2]
    assert record.ratio("eager_quantized", "eager", metric).count == 2


def test_interrupted_in_the_warm_up_first_calls_are_in_the_record() -> None:
    found = Found()
    run._keep_steps(found, Rounds({"jit": [], "aot": []}, {}, {"jit": 600_000.0}), ONE, ())
    assert [(item.arm, item.metric, item.value) for item in found.measured] == [("jit", "first call", 600_000.0)]
    assert found.step_ms == {ONE: {}}


def test_interrupted_between_images(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint, painted = images._paint, []

    def paint_some(*args: object) -> None:
        painted.append(args)
        if len(painted) == 6:  # two to warm up, one round of two, and one of the next
            raise KeyboardInterrupt
        paint(*args)

    monkeypatch.setattr(images, "_paint", paint_some)
    record, interrupted = bench(eager_artifact, Options(arms=BOTH, **(QUICK | {"images": 50})), "typed")
    assert interrupted
    for arm in BOTH:
        assert record.find(arm, "image").count == 1


# --- the command


@pytest.mark.slow
def test_ended_by_the_system_the_record_is_written(eager_artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    words = ["bench", str(eager_artifact), *ARM, "--steps", "1000000", *WORDS[2:], "--record", str(path)]
    with subprocess.Popen(
        [sys.executable, "-m", "qcompile.cli", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        said = ""
        while "rounds of" not in said and (character := process.stderr.read(1)):
            said += character
        time.sleep(SOME_ROUNDS_S)
        process.terminate()
        process.stderr.read()
    assert process.returncode == 143
    assert read(path.with_suffix(".interrupted")).find("eager_quantized", "step").count >= 1


@pytest.mark.slow
def test_when_the_connection_drops_the_record_is_written(eager_artifact: Path, tmp_path: Path) -> None:
    """The terminal is gone then, and what is written to it is an error."""
    path = tmp_path / "record.json"
    words = ["bench", str(eager_artifact), *ARM, "--steps", "1000000", *WORDS[2:], "--record", str(path)]
    ours, theirs = os.openpty()
    # The tests themselves may have been started with nohup, which is inherited.
    starter = (
        "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "fcntl.ioctl(2, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter, sys.executable, "-m", "qcompile.cli", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        said = b""
        while b"rounds of" not in said:
            said += os.read(ours, 1024)
        time.sleep(SOME_ROUNDS_S)
        os.close(ours)
        try:
            process.wait(60)
        finally:
            process.kill()
    assert read(path.with_suffix(".interrupted")).find("eager_quantized", "step").count >= 1


@pytest.fixture
def hangup() -> Iterator[Callable[[object], None]]:
    """Chooses what SIGHUP does, which the tests themselves may have been started to ignore."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_how_a_signal_ends_it(
    eager_artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hangup: Callable[[object], None],
    number: int,
    code: int,
) -> None:
    hangup(signal.SIG_DFL)
    monkeypatch.setattr(run, "_limits", lambda *_: signal.raise_signal(number))
    # The second comes while the record is on its way.
    monkeypatch.setattr(command, "text", lambda _: signal.raise_signal(number))
    words = [*WORDS[:-1], *ARM, "--record", str(tmp_path / "record.json")]
    assert main(["bench", str(eager_artifact), *words]) == code
    assert [path.name for path in tmp_path.iterdir()] == ["record.interrupted"]
    assert read(tmp_path / "record.interrupted").find("eager_quantized", "step").count == 1
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_under_nohup_it_goes_on(
    eager_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangup: Callable[[object], None]
) -> None:
    hangup(signal.SIG_IGN)
    monkeypatch.setattr(run, "_limits", lambda *_: signal.raise_signal(signal.SIGHUP))
    words = [*WORDS[:-1], *ARM, "--record", str(tmp_path / "record.json")]
    assert main(["bench", str(eager_artifact), *words]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_interrupted_the_record_is_written(
    eager_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_limits", interrupt)
    words = [*WORDS[:-1], *ARM, "--record", str(tmp_path / "record.json")]
    assert main(["bench", str(eager_artifact), *words]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["record.interrupted"]
    assert capsys.readouterr().out.endswith(f"record: {tmp_path / 'record.interrupted'}\n")
    record = read(tmp_path / "record.interrupted")
    assert record.find("eager_quantized", "step").count == 1
    assert any("interrupted" in note for note in record.notes)


def test_the_record_of_a_run_that_an_error_ends_is_written(
    eager_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("frames")

    monkeypatch.setattr(run, "_limits", fail)
    words = [*WORDS[:-1], *ARM, "--record", str(tmp_path / "record.json")]
    assert main(["bench", str(eager_artifact), *words]) == 70
    said = capsys.readouterr()
    assert "KeyError: 'frames'" in said.err
    assert said.out.endswith(f"record: {tmp_path / 'record.interrupted'}\n")
    record = read(tmp_path / "record.interrupted")
    assert record.find("eager_quantized", "step").count == 1
    assert record.notes == ("ended by KeyError ('frames'): holds what was measured by then",)
