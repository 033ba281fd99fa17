"""What long work shows."""

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import Result
from qcompile.cli.progress import Lines, shown
from qcompile.progress import Silent, stage


def test_a_file_gets_one_line_a_stage() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    with stage(lines, "plan"):
        assert stream.getvalue() == "plan ... "
    lines.note("Hint: [x]")
    lines.start("write")
    lines.finish(12.34)
    assert re.fullmatch(r"plan \.\.\. 0\.\d s\nHint: \[x\]\nwrite \.\.\. 12\.3 s\n", stream.getvalue())


def test_a_stage_that_fails_ends_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), shown(silently=False) as progress, stage(progress, "verify"):
        raise ZeroDivisionError
    assert capsys.readouterr().err == "verify ... \n"


def test_json_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(silently=True) as progress:
        assert isinstance(progress, Silent)
        with stage(progress, "plan"):
            pass
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_live_display_that_is_taken_away(tmp_path: Path) -> None:
    code = (
        "import time\nfrom qcompile.cli.progress import shown\nfrom qcompile.progress import stage\n"
        "with shown(False) as progress:\n    with stage(progress, 'quantize [x]'):\n        time.sleep(0.6)\n"
        "    progress.note('Hint: [x]')\n"
        "    progress.start('verify')\n    time.sleep(0.3)\n"
    )
    screen = on_terminal([sys.executable, "-c", code])
    assert screen.code == 0
    assert re.search(r"quantize \[x\] +0\.\d s", screen.out)
    assert "Hint: [x]" in screen.out
    assert "0:00:00" in screen.out  # the running clock
    assert "\x1b[?25h" in screen.out  # the cursor is back


def on_terminal(arguments: list[str]) -> Result:
    """Run a command whose output goes to a terminal."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    chunks = []
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while chunk := os.read(ours, 4096):
            chunks.append(chunk)
    os.close(ours)
    return Result(child.wait(), b"".join(chunks).decode(), "")
