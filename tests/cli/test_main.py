"""Dispatch, exit codes, and what is imported when."""

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DEMO

import qcompile
from cli.conftest import Result, command, run_process
from qcompile.cli import BUG, COMMANDS, INTERRUPTED, TERMINATED, UNREAD, validate
from qcompile.cli.imports import heavy_imports

HEAVY = ("torch", "diffusers", "transformers", "torchao", "rich", "numpy")


def test_help_names_every_command(cli: Callable[..., Result]) -> None:
    result = cli("--help")
    assert result.code == 0
    for module in COMMANDS:
        assert f"\n    {module.__name__.rpartition('.')[2]} " in result.out


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_command_has_help(cli: Callable[..., Result], module: object) -> None:
    result = cli(module.__name__.rpartition(".")[2], "--help")  # type: ignore[attr-defined]
    assert result.code == 0
    assert result.out.startswith("usage: qcompile ")


def test_version(cli: Callable[..., Result]) -> None:
    assert cli("--version").out == f"qcompile {qcompile.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], (*HEAVY, "pydantic", "yaml")),
        (["apply", "--help"], (*HEAVY, "pydantic", "yaml")),
        (["validate", DEMO], HEAVY),
        (["schema"], HEAVY),
        (["new", "other", "--from", DEMO], HEAVY),
    ],
    ids=["help", "apply-help", "validate", "schema", "new"],
)
def test_light_commands_load_nothing_heavy(tmp_path: Path, arguments: list[object], heavy: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom qcompile.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        f"sys.exit(', '.join(name for name in {heavy!r} if name in sys.modules))"
    )
    result = run_process([sys.executable, "-c", code, *map(str, arguments)], tmp_path)
    assert result.err in ("", "\n")


@pytest.mark.parametrize(
    ("arguments", "piece"),
    [
        ([], "COMMAND"),
        (["aply"], "aply"),
        (["apply"], "RECIPE"),
        (["apply", "x.yaml", "--dry"], "--dry"),
        (["generate", "x", "--prompt", "y", "--steps", "0"], "'0' is no whole number from 1 up"),
        (["generate", "x", "--prompt", "y", "--height", "tall"], "'tall' is no whole number"),
        (["schema", "artifact"], "artifact"),
    ],
    ids=["nothing", "typo", "no-recipe", "abbreviation", "no-steps", "word-for-number", "choice"],
)
def test_wrong_usage_is_one_paragraph_and_2(cli: Callable[..., Result], arguments: list[str], piece: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert piece in result.complaint
    assert "--help" in result.complaint


def test_traceback_is_shown_on_request_before_or_after_the_command(cli: Callable[..., Result]) -> None:
    assert "Traceback (most recent call last)" in cli("--traceback", "apply", "gone.yaml").err
    assert "Traceback (most recent call last)" in cli("apply", "gone.yaml", "--traceback").err


def raising(error: BaseException) -> Callable[[object], int]:
    def run(options: object) -> int:
        raise error

    return run


def test_what_the_system_refuses_is_no_bug(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "run", raising(OSError(28, "No space left on device", "out.txt")))
    result = cli("validate", DEMO)
    assert result.code == 3
    assert "out.txt: No space left on device. The system refused that" in result.complaint
    assert run_process(["sh", "-c", f"{shlex.join(command('schema'))} >&-"], Path()).code == 0
    assert "No space left" in run_process(["sh", "-c", f"{shlex.join(command('schema'))} >/dev/full"], Path()).err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)])
def test_signals_wait_until_libraries_are_imported(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    """What is half imported fails in ways of its own, and the message would call it a bug."""
    reached: list[str] = []

    def run(options: object) -> int:
        with heavy_imports():
            signal.raise_signal(number)
            reached.append("imported")
        reached.append("went on")
        return 0

    monkeypatch.setattr(validate, "run", run)
    # A shell's background job ignores SIGINT, and so do the tests that it runs.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli("validate", DEMO).code == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached == ["imported"]


def test_a_bug_says_so_and_is_70(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "run", raising(ZeroDivisionError("first\nlast line")))
    result = cli("validate", DEMO)
    assert result.code == BUG == 70
    assert "bug in qcompile" in result.complaint
    assert "ZeroDivisionError: last line" in result.complaint
    assert "Traceback" in cli("validate", DEMO, "--traceback").err


def test_interrupted_is_one_line_and_130(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "run", raising(KeyboardInterrupt()))
    result = cli("validate", DEMO)
    assert result.code == INTERRUPTED == 130
    assert result.err.strip().splitlines() == ["qcompile: interrupted; nothing was put in place"]


def test_output_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    pipeline = f"{' '.join(command('schema'))} | true; exit ${{PIPESTATUS[0]}}"
    result = run_process(["bash", "-c", pipeline], tmp_path)
    assert result.err == ""
    assert result.code in (0, UNREAD)  # 0 where everything fitted into the pipe before its reader was gone
