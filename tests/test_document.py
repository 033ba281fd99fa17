from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qcompile.document import MAX_BYTES, exponent_hint, parse_document, read_document
from qcompile.errors import RecipeError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc xyz:-#'\"", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["name", "model", "steps", "call"]), PLAIN, min_size=1))
def test_what_yaml_wrote_is_read_back(data: dict) -> None:
    # Aliases are refused, and yaml writes equal objects as aliases.
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    assert parse_document(yaml.dump(data, Dumper=Plain), "r.yaml").data == data


def test_lines_are_those_of_the_text() -> None:
    document = parse_document("name: x\nsteps:\n  - quantize:\n      scheme: y\n", "r.yaml")
    assert document.where(("steps", 0, "quantize", "scheme")) == "r.yaml:4: steps.0.quantize.scheme"
    assert document.where(("steps", 0, "quantize", "layers")) == "r.yaml:3: steps.0.quantize.layers"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "r.yaml:2: name: the key 'name' is there twice, first on line 1"),
        ("steps:\n  - quantize: {scheme: a, scheme: b}\n", "the key 'scheme' is there twice"),
        ("- a\n- b\n", "this is a list"),
        ("just words", "this is a single value"),
        ("", "this is empty"),
        ("name: [", "not valid YAML"),
        ("a: &x [1]\nb: *x\n", "anchors and aliases are not allowed"),
        ("a: !!python/object/apply:os.system [ls]\n", None),
        ("a: 2026-01-01\n", "a date"),
        ("1: a\n", "keys are plain words"),
        ("? [a]\n: b\n", "keys are plain words"),
        ("a: {<<: {b: 1}}\n", "keys are plain words"),
        ("[" * 5000, "not valid YAML|nested too deeply"),
        ("a: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("a: \0", "not valid YAML"),
        ('a: 1\nb: "\\U00110000"', "r.yaml:2: not valid YAML: a number there is too large"),
        ('a: 1\nb: "\\UFFFFFFFF"', "r.yaml:2: not valid YAML: a number there is too large"),
        ("a: 1\nb: !!bool foo", "r.yaml:2: b: 'foo' can't be read as bool; quote it if it is text"),
        ('a: !!int ""', "r.yaml:1: a: '' can't be read as int"),
        ("a: !!float ''", "r.yaml:1: a: '' can't be read as float"),
        ("a: !!timestamp foo", "r.yaml:1: a: 'foo' can't be read as timestamp"),
        ("a: 2026-13-45", "r.yaml:1: a: '2026-13-45' can't be read as timestamp"),
        (f"a: 1{':20' * 300}.5", "r.yaml:1: a: '1:20:.*…' can't be read as float"),
        (f"a: [0x{'f' * 5000}]", "r.yaml:1: a.0: 0xfff.*… does not fit into 64 bits"),
        (f"a: {'9' * 5000}", "r.yaml:1: a: '999.*…' can't be read as int"),
        (f"a: {2**63}", f"r.yaml:1: a: {2**63} does not fit into 64 bits"),
        (f"a: {-(2**63) - 1}", "does not fit into 64 bits"),
    ],
)
def test_what_is_no_recipe_is_refused(text: str, message: str | None) -> None:
    if message is None:
        # An unknown tag on a list is not looked at: the list stays a list, and no code is run.
        assert parse_document(text, "r.yaml").data == {"a": ["ls"]}
        return
    with pytest.raises(RecipeError, match=message):
        parse_document(text, "r.yaml")


def test_whole_numbers_of_64_bits_are_read() -> None:
    assert parse_document(f"a: [{2**63 - 1}, {-(2**63)}]", "r.yaml").data == {"a": [2**63 - 1, -(2**63)]}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1e-2", "YAML reads 1e-2 as text; write 0.01"),
        ("1e9", "YAML reads 1e9 as text; write 1000000000"),
        ("-1.5E+3", "YAML reads -1.5E+3 as text; write -1500"),
        ("1e999999999", ""),
        ("1e5 stars", ""),
        ("0.01", ""),
    ],
)
def test_how_a_number_with_an_exponent_is_written(text: str, hint: str) -> None:
    assert exponent_hint(text) == hint
    assert parse_document(f"a: '{text}'", "r.yaml").data == {"a": text}


def test_an_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    with pytest.raises(RecipeError, match="aliases"):
        parse_document("\n".join(lines), "bomb.yaml")


def test_files_that_are_too_large_or_no_text(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(RecipeError, match="more than 1.0 MB, which is no recipe"):
        read_document(path)
    with pytest.raises(RecipeError, match="/dev/zero: more than 1.0 MB"):
        read_document(Path("/dev/zero"))
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(RecipeError, match="not UTF-8 text"):
        read_document(path)
    with pytest.raises(RecipeError, match="can't be read"):
        read_document(tmp_path)
    with pytest.raises(RecipeError, match="can't be read"):
        read_document(tmp_path / "missing.yaml")
