"""`qcompile doctor`: the probe is real, in a child process."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import Result
from qcompile import doctor
from qcompile.cli.doctor import text
from qcompile.doctor import probe
from qcompile.schemes import SCHEMES

STATIC = """#!/bin/sh
case " $* " in *" -shared "*) exec g++ "$@" -static-libstdc++ -static-libgcc ;; esac
exec g++ "$@"
"""
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)


@pytest.mark.usefixtures("no_compiler")
def test_no_compiler_is_a_finding_and_3(cli: Callable[..., Result]) -> None:
    result = cli("doctor", "--json")
    assert result.code == 3
    assert result.err == ""
    report = json.loads(result.out)
    assert not report["good"]
    check = report["checks"][0]
    assert (check["name"], check["good"]) == ("compiler", False)
    assert "apt-get install g++" in check["found"]


@pytest.mark.usefixtures("no_compiler")
def test_everything_else_is_reported_all_the_same(cli: Callable[..., Result]) -> None:
    result = cli("doctor")
    assert result.code == 3
    for piece in ("torch ", "torchao", "cpu ", "instruction sets: ", "BROKEN"):
        assert piece in result.out
    for name in SCHEMES:
        assert name in result.out


@needs_compiler
@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import os; os.abort()", "building a package made with "),
        ("import os; print('built', flush=True); os.abort()", "loading a package made with "),
    ],
    ids=["build", "load"],
)
def test_a_crash_is_a_finding_with_compiler_and_remedy(monkeypatch: pytest.MonkeyPatch, code: str, found: str) -> None:
    monkeypatch.setattr(doctor, "_PROBE", code)
    check = probe("cpu")
    assert not check.good
    assert check.found.startswith(found)
    assert f"crashed ({signal.SIGABRT.name})" in check.found
    assert shutil.which("g++") in check.found
    assert "export CC=/usr/bin/gcc CXX=/usr/bin/g++" in check.found


@needs_compiler
def test_a_probe_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.5)
    check = probe("cpu")
    assert not check.good
    assert "took more than 0.5 s" in check.found


@needs_compiler
@pytest.mark.slow
def test_a_machine_that_works(cli: Callable[..., Result]) -> None:
    result = cli("doctor", "--json")
    report = json.loads(result.out)
    assert result.code == 0, report["checks"]
    assert [check["name"] for check in report["checks"]][:3] == ["compiler", "C++ runtime", "bytecode"]
    assert report["versions"]["torch"]
    assert {item["scheme"] for item in report["schemes"]} == set(SCHEMES)


@needs_compiler
@pytest.mark.long
def test_a_compiler_that_links_statically(
    cli: Callable[..., Result], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = here / "static-g++"
    wrapper.write_text(STATIC)
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    result = cli("doctor", "--json")
    assert result.code == 3
    checks = {check["name"]: check for check in json.loads(result.out)["checks"]}
    assert checks["compiler"]["good"]
    assert "statically" in checks["C++ runtime"]["found"]
    assert not checks["package on cpu"]["good"]
    assert checks["package on cpu"]["found"].startswith(f"loading a package made with {wrapper} ")


def test_libraries_that_are_compiled_at_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It works without bytecode, so that it is no reason to say that something is broken."""
    monkeypatch.setattr(doctor, "slow_start", lambda: "Python compiles torch")
    check = doctor.check_bytecode()
    assert (check.good, check.found) == (False, "Python compiles torch")
    report = doctor.Report({}, "", (), (), (check,), ())
    assert report.good
    assert "SLOW" in text(report)
    monkeypatch.setattr(doctor, "slow_start", lambda: None)
    assert doctor.check_bytecode().good
