"""`qcompile report`: what it writes, prints, and refuses."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from report.conftest import ARTIFACT, bench_data, verification_data

from cli.conftest import Result, everything


def test_the_page_and_what_is_missing(cli: Callable[..., Result], here: Path) -> None:
    result = cli("report", ARTIFACT)
    assert result.code == 0
    assert f"no bench record; this makes one: qcompile bench {ARTIFACT} --record bench.json" in result.out
    assert "look at report.html (" in result.out
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_with_both_records(cli: Callable[..., Result], here: Path) -> None:
    Path("b.json").write_text(json.dumps(bench_data()))
    Path("v.json").write_text(json.dumps(verification_data()))
    result = cli("report", ARTIFACT, "--record", "b.json", "--verified", "v.json", "--out", "new/r.html", "--json")
    assert result.code == 0
    assert result.err == ""
    page = Path("new/r.html")
    assert json.loads(result.out) == {"report": "new/r.html", "bytes": page.stat().st_size, "missing": {}}


@pytest.mark.parametrize(
    ("arguments", "code", "piece"),
    [
        (("--out", "page.txt"), 2, "--out page.txt: the page is an HTML file. Call it NAME.html."),
        (("--out", "folder.html"), 2, "--out folder.html is a folder"),
        (("--out", "file/r.html"), 2, "--out file/r.html: nothing can be written under "),
        (("--record", "missing.json"), 2, "missing.json is no record of `qcompile bench`: it can't be read"),
        (("--record", "file"), 2, "file is no record of `qcompile bench`: Invalid JSON"),
        (("--verified", "file"), 2, "file is no record of `qcompile verify`: Invalid JSON"),
        (("--record", "other.json"), 2, "other.json: recipe_sha256 is 000000000000…"),
    ],
)
def test_what_is_refused(cli: Callable[..., Result], here: Path, arguments: tuple, code: int, piece: str) -> None:
    Path("file").touch()
    Path("folder.html").mkdir()
    Path("other.json").write_text(json.dumps(bench_data() | {"recipe_sha256": "0" * 64}))
    before = everything(here)
    result = cli("report", ARTIFACT, *arguments)
    assert result.code == code
    assert piece in result.complaint
    assert everything(here) == before


def test_no_file_is_put_into_an_artifact(cli: Callable[..., Result], here: Path) -> None:
    result = cli("report", ARTIFACT, "--out", ARTIFACT / "report.html")
    assert result.code == 2
    assert "is an artifact, which takes no other files" in result.complaint
    assert not (ARTIFACT / "report.html").exists()


def test_only_reports_are_replaced(cli: Callable[..., Result], here: Path) -> None:
    page = here / "page.html"
    for _ in range(2):
        assert cli("report", ARTIFACT, "--out", page).code == 0
    page.write_text("<html>somebody's own</html>")
    refused = cli("report", ARTIFACT, "--out", page)
    assert (refused.code, "is there and no report of qcompile" in refused.err) == (2, True)
    assert page.read_text() == "<html>somebody's own</html>"
    assert [path.name for path in here.iterdir() if path.name.startswith(".")] == []


def test_beside_an_artifact_from_inside_of_it(
    cli: Callable[..., Result], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = here / "artifact"
    shutil.copytree(ARTIFACT, copy)
    monkeypatch.chdir(copy)
    assert cli("report", ".", "--out", "../page.html").code == 0
    (here / "link").symlink_to(copy)
    assert cli("report", ".", "--out", here / "link" / "page.html").code == 2


def test_a_name_that_is_too_long(cli: Callable[..., Result], here: Path) -> None:
    found = cli("report", ARTIFACT, "--out", here / f"{'x' * 300}.html")
    assert (found.code, "File name too long" in found.err) == (3, True)


def test_what_is_no_artifact(cli: Callable[..., Result], here: Path) -> None:
    result = cli("report", "nothing")
    assert result.code == 2
    assert "there is no such folder" in result.complaint


def test_torch_is_not_needed(here: Path) -> None:
    program = (
        "import sys; from qcompile.cli import main; "
        f"main(['report', {str(ARTIFACT)!r}]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0
