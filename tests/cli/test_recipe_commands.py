"""`qcompile validate`, `new` and `schema`: no model is involved."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from conftest import DEMO, demo_data

from cli.conftest import Result, everything
from qcompile import recipe as recipes


def test_validate_checks_every_file(cli: Callable[..., Result], write_recipe: Callable[..., Path]) -> None:
    good, first, second = write_recipe("good"), write_recipe("first", extra=1), write_recipe("second", version="one")
    assert cli("validate", good).out.startswith(f"{good}: valid (good version 1: fuse_qkv, ")
    result = cli("validate", first, good, second)
    assert result.code == 2
    assert f"{good}: valid" in result.out
    complaints = result.err.splitlines()
    assert len(complaints) == 2
    assert "first.yaml" in complaints[0]
    assert "second.yaml" in complaints[1]


def test_validate_as_json_reports_both_kinds(cli: Callable[..., Result], write_recipe: Callable[..., Path]) -> None:
    result = cli("validate", write_recipe("good"), write_recipe("bad", extra=1), "--json")
    assert result.code == 2
    good, bad = json.loads(result.out)["recipes"]
    assert (good["valid"], good["name"], good["steps"]) == (True, "good", ["fuse_qkv", "channels_last", "quantize"])
    assert not bad["valid"]
    assert "extra" in bad["error"]


def test_schema_is_what_recipes_are_checked_against(cli: Callable[..., Result]) -> None:
    schema = json.loads(cli("schema").out)
    jsonschema.Draft202012Validator(schema).validate(demo_data())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(demo_data() | {"extra": 1})


def test_schema_of_manifests(cli: Callable[..., Result], eager_artifact: Path) -> None:
    schema = json.loads(cli("schema", "manifest").out)
    manifest = json.loads((eager_artifact / "qcompile.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(manifest)


def test_new_keeps_comments_and_replaces_the_name(cli: Callable[..., Result], here: Path) -> None:
    result = cli("new", "mine", "--from", DEMO)
    assert result.code == 0
    assert result.out == "mine.yaml is there; next: qcompile plan mine.yaml\n"
    text, source = (here / "mine.yaml").read_text(), DEMO.read_text()
    assert recipes.read(here / "mine.yaml").name == "mine"
    assert recipes.read(here / "mine.yaml").steps == recipes.read(DEMO).steps
    comments = [line for line in source.splitlines() if line.startswith("#") and "$schema=" not in line]
    assert comments
    assert set(comments) <= set(text.splitlines())
    assert "$schema=../" not in text


def test_new_keeps_a_comment_behind_the_name(cli: Callable[..., Result], here: Path) -> None:
    source = here / "old.yaml"
    source.write_text(DEMO.read_text().replace("name: flux_mini_int8", "name: old   # equals the file's name"))
    assert cli("new", "mine", "--from", "old.yaml", "--out", "mine.yaml").code == 0
    assert "\nname: mine   # equals the file's name\n" in (here / "mine.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "piece"),
    [
        (("taken", "--from", DEMO), "taken.yaml exists and is left alone"),
        (("Bad Name", "--from", DEMO), "name"),
        (("my/r", "--from", DEMO), "NAME 'my/r': a word without folders; --out FILE says"),
        (("mine", "--from", DEMO, "--out", "other.yaml"), "ends in mine.yaml"),
        (("mine", "--from", DEMO, "--out", "gone/mine.yaml"), "can't be written"),
        (("mine", "--from", "gone.yaml"), "gone.yaml: can't be read"),
    ],
    ids=["exists", "name", "folders", "other-file", "no-folder", "no-source"],
)
def test_new_refuses(cli: Callable[..., Result], here: Path, arguments: tuple[object, ...], piece: str) -> None:
    (here / "taken.yaml").write_text("mine")
    before = everything(here)
    result = cli("new", *arguments)
    assert result.code == 2
    assert piece in result.complaint
    assert everything(here) == before
    assert (here / "taken.yaml").read_text() == "mine"
