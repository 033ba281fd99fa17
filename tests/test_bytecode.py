import compileall
import importlib
import os
import py_compile
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qcompile import bytecode


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that is installed and was never imported."""
    folder = tmp_path / "some_library"
    folder.mkdir()
    for name in ("__init__", "a", "b"):
        (folder / f"{name}.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(bytecode, "LIBRARIES", ("some_library", "no_such_library"))
    importlib.invalidate_caches()
    return folder


def test_source_alone(library: Path) -> None:
    assert bytecode.without_bytecode() == {"some_library": library}


def test_what_people_are_told(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dont_write, reason in ((True, ", since PYTHONDONTWRITEBYTECODE is set"), (False, "")):
        monkeypatch.setattr(sys, "dont_write_bytecode", dont_write)
        told = bytecode.slow_start()
        assert told.startswith(f"Python compiles some_library from source at every start{reason}: a start takes ")
        command = told.partition("Once: ")[2]
        assert command.endswith(f"-m compileall -q -j 0 {library}")
    subprocess.run(shlex.split(command), check=True)
    assert bytecode.slow_start() is None


@pytest.mark.parametrize("mode", py_compile.PycInvalidationMode)
def test_bytecode(library: Path, mode: py_compile.PycInvalidationMode) -> None:
    compileall.compile_dir(library, quiet=2, invalidation_mode=mode)
    assert bytecode.without_bytecode() == {}


def test_bytecode_of_another_source(library: Path) -> None:
    """As where files were copied with new times: Python does not take it."""
    compileall.compile_dir(library, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    for source in library.glob("*.py"):
        os.utime(source, (1, 1))
    assert bytecode.without_bytecode() == {"some_library": library}


def test_bytecode_of_another_python(library: Path) -> None:
    compileall.compile_dir(library, quiet=2)
    for cached in library.glob("__pycache__/*.pyc"):
        cached.write_bytes(b"\0\0\r\n" + cached.read_bytes()[4:])
    assert bytecode.without_bytecode() == {"some_library": library}
