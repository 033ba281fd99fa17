"""README.md and CONTRIBUTING.md are true: files are there, commands and snippets run, the recipe is the demo's."""

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import DEMO, RECIPES, ROOT

import qcompile
from qcompile.cli import COMMANDS, main
from qcompile.recipe import parse

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = {".": README, ".github": CONTRIBUTING, "recipes": (RECIPES / "README.md").read_text(encoding="utf-8")}
APPLY = "qcompile apply recipes/flux_mini_int8.yaml --out flux-mini-int8"
APPLY_IN_PYTHON = 'qcompile.apply("recipes/flux_mini_int8.yaml", out="flux-mini-int8")'

FASTER = {
    "qcompile compare": " --steps 1",
    "qcompile bench": " --arms eager,aot --steps 2 --images 1 --cold-arms aot",
    "qcompile verify": " --prompts 1 --no-control",
}
"""What is added to commands that would take minutes."""


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith("qcompile ")]


@pytest.mark.parametrize("folder", PAGES)
def test_links_lead_to_files(folder: str) -> None:
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", PAGES[folder])]
    local = [target for target in targets if target and not target.startswith("http")]
    assert local or folder == ".github"
    assert [target for target in local if not (ROOT / folder / target).exists()] == []


def test_links_lead_to_headings() -> None:
    headings = {line.lstrip("# ").lower().replace(" ", "-") for line in README.splitlines() if line.startswith("#")}
    anchors = [anchor for text in PAGES.values() for anchor in re.findall(r"README\.md#([^)]+)\)", text)]
    assert anchors
    assert set(anchors) <= headings


@pytest.mark.parametrize("folder", PAGES)
def test_named_files_are_there(folder: str) -> None:
    """Every word in backticks that looks like a path of the project."""
    named = re.findall(r"`((?:qcompile|recipes|serialization|tests|\.github|\.ci)/[\w./*-]*)`", PAGES[folder])
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_the_tree_is_the_packages_own() -> None:
    tree = next(block for block in blocks("") if block.startswith("qcompile/"))
    inside, _, _ = tree.partition("recipes/")
    named = re.findall(r"(?<!\S)([a-z]+(?:\.py|/))(?=\s)", inside.removeprefix("qcompile/"))
    assert len(named) > 12
    assert [name for name in named if not (ROOT / "qcompile" / name).exists()] == []


def test_the_straight_line_names_functions() -> None:
    line = next(block for block in blocks("") if block.startswith("recipe.yaml"))
    for module in re.findall(r"(\w+)\.\w+(?=\s|$)", line.splitlines()[1]):
        assert (ROOT / "qcompile" / module).exists() or (ROOT / "qcompile" / f"{module}.py").exists()


def test_the_recipe_is_the_demo() -> None:
    (text,) = blocks("yaml")
    assert parse(text).data == yaml.safe_load(DEMO.read_text(encoding="utf-8"))


def test_commands_exist() -> None:
    known = {module.__name__.rpartition(".")[2] for module in COMMANDS}
    for page in PAGES.values():
        assert set(re.findall(r"qcompile (?!-)([a-z]+)(?=[ `\n])", "\n".join(re.findall(r"`[^`]+`", page)))) <= known


def test_make_targets_exist() -> None:
    named = {target for page in PAGES.values() for target in re.findall(r"(?:`|^)make ([a-z-]+)", page, re.MULTILINE)}
    assert {"demo", "test", "lint"} <= named
    for target in named:
        found = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr


def test_the_demo_ends_with_the_report() -> None:
    found = subprocess.run(
        ["make", "-n", "--no-print-directory", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.search(r"qcompile report .* --out build/demo/report\.html\n$", found.stdout)


def test_snippets_are_python() -> None:
    for snippet in blocks("python"):
        ast.parse(snippet)


@pytest.fixture
def checkout(compiled_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipes, and the artifact that README's `apply` makes, which takes half a minute."""
    shutil.copytree(RECIPES, tmp_path / "recipes")
    shutil.copytree(compiled_artifact, tmp_path / "flux-mini-int8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_commands_run(checkout: Path) -> None:
    found = commands()
    assert APPLY in found
    for command in found:
        if command == APPLY:
            continue
        faster = FASTER.get(" ".join(command.split()[:2]), "")
        assert main(shlex.split(command + faster)[1:]) == 0, command
    for name in ("star.png", "compare.png", "my_recipe.yaml", "report.html"):
        assert (checkout / name).is_file()


@pytest.mark.slow
def test_snippets_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompile.artifact.read import read_artifact

    snippets = blocks("python")
    assert sum(APPLY_IN_PYTHON in snippet for snippet in snippets) == 1
    monkeypatch.setattr(qcompile, "apply", lambda recipe, out: read_artifact(out), raising=False)
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), {})
    assert (checkout / "circle.png").is_file()


def test_every_bound_is_documented() -> None:
    from qcompile.header import Bounds

    assert [name for name in Bounds.model_fields if f"`{name}`" not in README] == []
