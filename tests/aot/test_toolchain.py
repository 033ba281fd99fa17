import stat
from pathlib import Path

import pytest

from qcompile.aot.toolchain import check_toolchain, compiler
from qcompile.errors import MachineError


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def test_the_compiler_of_this_machine_is_good() -> None:
    check_toolchain()
    assert Path(compiler()).exists()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"no C\+\+ compiler: 'g\+\+' is not on the PATH.*install g\+\+"):
        check_toolchain()
    monkeypatch.setenv("CXX", "/nowhere/clang++")
    with pytest.raises(MachineError, match=r"'/nowhere/clang\+\+' is not on the PATH"):
        check_toolchain()


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(script(tmp_path / "cxx", "echo out of licences >&2; exit 1")))
    with pytest.raises(MachineError, match="can't build a shared library: out of licences"):
        check_toolchain()


def test_a_compiler_that_links_the_runtime_statically(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = compiler()
    wrapper = script(tmp_path / "cxx", f'exec {real} -static-libstdc++ -static-libgcc "$@"')
    monkeypatch.setenv("CXX", str(wrapper))
    with pytest.raises(MachineError, match=r"links the C\+\+ runtime statically.*CXX=/usr/bin/g\+\+"):
        check_toolchain()


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    check_toolchain()
    assert list(tmp_path.iterdir()) == []
