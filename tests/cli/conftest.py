"""The command line run in this process, and in one of its own; recipes as files."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import demo_data, eager_steps

from qcompile.cli import main


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one paragraph of an error; what comes before it is progress."""
        assert self.out == "", self.out
        assert "Traceback" not in self.err, self.err
        paragraphs = [line for line in self.err.splitlines() if line.startswith("qcompile: error: ")]
        assert len(paragraphs) == 1, self.err
        assert self.err.endswith(f"{paragraphs[0]}\n"), self.err
        return paragraphs[0].removeprefix("qcompile: error: ")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run `qcompile ARGUMENTS…` in this process."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


def command(*arguments: object) -> list[str]:
    """`qcompile ARGUMENTS…` for a process of its own."""
    return [sys.executable, "-m", "qcompile.cli", *map(str, arguments)]


def run_process(arguments: list[str], folder: Path, timeout: float = 240, **environment: str) -> Result:
    """Run a command in a process of its own."""
    found = subprocess.run(
        arguments,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    return Result(found.returncode, found.stdout, found.stderr)


@pytest.fixture
def write_recipe(here: Path) -> Callable[..., Path]:
    """Write the demo recipe without its compile step, changed: `write_recipe(shapes=[...])`."""

    def write(name: str = "small", **changes: object) -> Path:
        path = here / f"{name}.yaml"
        path.write_text(yaml.safe_dump(demo_data() | {"name": name, "steps": eager_steps()} | changes))
        return path

    return write


def everything(folder: Path) -> set[str]:
    """Names of all files and folders below `folder`, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
