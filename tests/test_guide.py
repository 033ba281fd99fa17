"""Every block of `serialization/guide.md` runs, from top to bottom, in one namespace."""

import ast
import re
import shutil
from pathlib import Path

import pytest
from conftest import RECIPES, ROOT

GUIDE = ROOT / "serialization" / "guide.md"
APPLY = 'qcompile.apply("recipes/flux_mini_int8.yaml", out="flux-mini-int8")'


def blocks() -> list[tuple[int, str]]:
    """Line and text of each Python block."""
    text = GUIDE.read_text(encoding="utf-8")
    return [
        (text[: found.start(1)].count("\n") + 1, found[1])
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def test_blocks_are_python() -> None:
    assert len(blocks()) > 10
    for line, code in blocks():
        ast.parse(code, f"guide.md:{line}")
    assert sum(APPLY in code for _, code in blocks()) == 1


@pytest.mark.slow
def test_blocks_run(compiled_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(compiled_artifact, tmp_path / "flux-mini-int8")
    shutil.copytree(RECIPES, tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    for line, code in blocks():
        # The session's artifact was made by this very call, which takes half a minute.
        code = code.replace(APPLY, "__import__('qcompile.artifact.read').artifact.read.read_artifact('flux-mini-int8')")
        # Padded, so that a failure names the line of the guide.
        exec(compile("\n" * (line - 1) + code, str(GUIDE), "exec"), namespace)
    assert (tmp_path / "circle.png").is_file()
