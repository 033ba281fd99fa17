"""Runs that are cut short: what is under the target's name is never half an artifact, and the next run cleans up."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import DEMO

from cli.conftest import command, everything, run_process
from qcompile.artifact.read import read_artifact

pytestmark = pytest.mark.slow
TIMEOUT_SECONDS = 240


class Run:
    """An `apply` in a process group of its own, watched through what it says and writes."""

    def __init__(self, folder: Path, recipe: Path) -> None:
        self.folder = folder
        self._said = (folder / "stderr.txt").open("w+b")
        self.process = subprocess.Popen(
            command("apply", recipe, "--out", "made"),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,
            # A shell's background job ignores SIGINT, and so would every process started from it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def said(self) -> str:
        """Its stderr so far."""
        return (self.folder / "stderr.txt").read_text()

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Return as soon as `reached()`; the run must not have ended by then."""
        limit = time.monotonic() + TIMEOUT_SECONDS
        while not reached():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < limit, self.said()
            time.sleep(0.001)

    def end(self, number: int) -> int:
        """Send a signal to the run alone, wait for it, and end what it may have left running."""
        self.process.send_signal(number)
        code = self.process.wait(TIMEOUT_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._said.close()
        (self.folder / "stderr.txt").unlink()
        return code


@contextmanager
def started(folder: Path, recipe: Path) -> Iterator[Run]:
    run = Run(folder, recipe)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()


def says(title: str) -> Callable[[Run], Callable[[], bool]]:
    """The moment a stage begins."""
    return lambda run: lambda: f"\n{title} " in f"\n{run.said()}"


def writes(pattern: str) -> Callable[[Run], Callable[[], bool]]:
    """The moment a file appears in the folder that is being written."""
    return lambda run: lambda: any(run.folder.glob(f".made.partial-*/{pattern}"))


def runs_for(seconds: float) -> Callable[[Run], Callable[[], bool]]:
    """Some time after the start."""

    def moment(run: Run) -> Callable[[], bool]:
        until = time.monotonic() + seconds
        return lambda: time.monotonic() > until

    return moment


MOMENTS = {
    "imports": runs_for(1),
    "plan": says("plan"),
    "folder": writes("."),
    "load": says("load the model"),
    "reference": says("reference"),
    "quantize": says("quantize transformer"),
    "verify": says("verify"),
    "weights": writes("*/*.safetensors"),
    "digests": says("digests"),
    "manifest": writes("qcompile.json"),
}


def check_target(folder: Path) -> None:
    """Nothing is there, or all of it: the last moments may fall behind the one in which it is put in place."""
    if os.path.lexists(folder / "made"):
        read_artifact(folder / "made")


def test_killed_at_ten_moments(tmp_path: Path, write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe()
    abandoned = 0
    for name, moment in MOMENTS.items():
        with started(tmp_path, recipe) as run:
            run.wait_until(moment(run))
            assert run.end(signal.SIGKILL) == -signal.SIGKILL, name
        check_target(tmp_path)
        if name not in ("digests", "manifest"):
            assert not (tmp_path / "made").exists(), name
        partial = list(tmp_path.glob(".made.partial-*"))
        # Each run removes what the one before it left.
        assert len(partial) <= 1, name
        abandoned += len(partial)
        if (tmp_path / "made").exists():
            (tmp_path / "made").rename(tmp_path / f"whole-{name}")
    assert abandoned >= 5
    result = run_process(command("apply", recipe, "--out", "made"), tmp_path)
    assert result.code == 0, result.err
    read_artifact(tmp_path / "made")
    left = {entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("whole-")}
    assert left == {"made", "small.yaml"}


@pytest.mark.long
def test_killed_while_compiling(tmp_path: Path, write_recipe: Callable[..., Path]) -> None:
    for moment in (says("check the compiler"), says("compile FluxTransformerBlock"), writes("compiled/*/*/*.pt2")):
        with started(tmp_path, DEMO) as run:
            run.wait_until(moment(run))
            assert run.end(signal.SIGKILL) == -signal.SIGKILL
        assert not os.path.lexists(tmp_path / "made")
    assert list(tmp_path.glob(".made.partial-*"))
    result = run_process(command("apply", write_recipe(), "--out", "made"), tmp_path)
    assert result.code == 0, result.err
    assert {entry.name for entry in tmp_path.iterdir()} == {"made", "small.yaml"}


@pytest.mark.parametrize(
    ("number", "moment", "code", "last"),
    [
        (signal.SIGINT, "imports", 130, "qcompile: interrupted; nothing was put in place\n"),
        (signal.SIGINT, "weights", 130, "qcompile: interrupted; nothing was put in place\n"),
        (signal.SIGTERM, "weights", 143, ""),
    ],
    ids=["interrupted early", "interrupted late", "terminated"],
)
def test_asked_to_stop(
    tmp_path: Path, write_recipe: Callable[..., Path], moment: str, number: int, code: int, last: str
) -> None:
    recipe = write_recipe()
    before = everything(tmp_path)
    with started(tmp_path, recipe) as run:
        run.wait_until(MOMENTS[moment](run))
        said = run.said
        run.process.send_signal(number)
        run.process.wait(TIMEOUT_SECONDS)
        text = said()
        assert run.end(signal.SIGKILL) == code
    assert "Traceback" not in text
    assert text.endswith(last)
    assert everything(tmp_path) == before
