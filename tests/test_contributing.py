"""CONTRIBUTING's way to a recipe, followed to the letter."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import RECIPES, ROOT

from qcompile import gallery
from qcompile.bench.record import read
from qcompile.cli import main
from qcompile.errors import RecipeError

PAGE = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")


def walk() -> list[list[str]]:
    (block,) = re.findall(r"^```sh\n(qcompile new.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for line in block.splitlines()]


def test_the_walk_has_every_stop() -> None:
    assert [words[0] for words in walk()] == ["new", "validate", "plan", "apply", "verify", "bench"]


@pytest.mark.long
def test_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in walk():
        assert main(words) == 0, words
    assert (tmp_path / "my_recipe.yaml").read_text(encoding="utf-8").startswith("# Copied from flux_int8.yaml")
    (path,) = (tmp_path / "measured").glob("my_recipe.cpu-*.json")
    record = read(path)
    assert record.ratio("aot", "eager") is not None


def test_names_and_paths_of_recipes() -> None:
    assert gallery.find_recipe("flux_int8") == RECIPES / "flux_int8.yaml"
    assert gallery.find_recipe("some/where.yaml") == Path("some/where.yaml")
    with pytest.raises(RecipeError, match="no recipe of qcompile is called that; did you mean 'flux_int8'"):
        gallery.find_recipe("flux_int9")
