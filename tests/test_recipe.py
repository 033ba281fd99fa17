import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from conftest import DEMO, demo_data
from hypothesis import given
from hypothesis import strategies as st

from qcompile import recipe as recipes
from qcompile.errors import RecipeError


def parse(**changes: object) -> recipes.Recipe:
    return recipes.parse(yaml.safe_dump(demo_data() | changes), "test.yaml")


def test_the_demo_recipe_is_read_in_order() -> None:
    recipe = recipes.read(DEMO)
    assert [step.kind for step in recipe.steps] == ["fuse_qkv", "channels_last", "quantize", "compile"]
    assert recipe.header.shapes[0].label == "128x128_b1"
    assert recipe.header.verify.max_relative_error == 0.05


def test_the_text_after_overrides_reads_back_the_same() -> None:
    recipe = recipes.read(DEMO, ["steps.2.quantize.scheme=float8_weight_only", "shapes.0.batch=2"], model="somewhere")
    again = recipes.parse(recipe.to_yaml())
    assert again == recipe
    assert again.digest == recipe.digest
    assert again.header.model.id == "somewhere"
    assert again.steps[2].scheme == "float8_weight_only"


def test_the_digest_follows_content_not_layout() -> None:
    text = DEMO.read_text()
    assert recipes.parse(text + "\n# a comment\n").digest == recipes.parse(text).digest
    assert recipes.parse(text, overrides=["version=2"]).digest != recipes.parse(text).digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stpes": []}, r"unknown key 'stpes'; did you mean 'steps'\?"),
        ({"model": {"id": "x", "dtpye": "float32"}}, r"model.dtpye: unknown key 'dtpye'; did you mean 'dtype'\?"),
        ({"model": {"id": "x", "dtype": "int8"}}, "model.dtype: input should be 'bfloat16', 'float16' or 'float32'"),
        ({"version": "one"}, 'version: input should be a valid integer, not "one"'),
        ({"version": True}, "version: input should be a valid integer"),
        ({"name": "Has Spaces"}, "name: string should match pattern"),
        ({"call": 3}, "call: input should be"),
        ({"shapes": [{"height": 0}]}, "shapes.0.height: input should be greater than or equal to 1"),
        ({"shapes": [{"height": 64, "width": 64}, {"width": 64, "height": 64}]}, "shapes.1: 64x64_b1 is declared twice"),
        ({"steps": []}, "steps: a list of one or more steps is needed; valid steps: fuse_lora, fuse_qkv"),
        ({"steps": {"quantize": {}}}, "steps: a list of one or more steps"),
        ({"steps": ["quantize"]}, "steps.0: a step is one key"),
        ({"steps": [{"quantise": {}}]}, r"there is no step 'quantise'; did you mean 'quantize'\?"),
        ({"steps": [{"quantize": {"component": "t", "scheme": "int9"}}]}, "scheme: no scheme is called 'int9'.*int8_dynamic"),
        ({"steps": [{"quantize": {"component": "t"}}]}, "steps.0.quantize: the key 'scheme' is missing"),
        ({"steps": [{"quantize": {"component": "t", "scheme": "int8_dynamic", "layers": {"where": {"min_row": 1}}}}]},
         r"layers.where.min_row: unknown key 'min_row'; did you mean 'min_rows'\?"),
        ({"steps": [{"quantize": {"component": "t", "scheme": "int8_dynamic", "layers": {"include": ["a..b"]}}}]},
         "empty part"),
        ({"steps": [{"compile": {"component": "t", "mode": "fast"}}]}, "mode: input should be 'aot' or 'jit'"),
        ({"verify": {"max_relative_error": float("inf")}}, "inf is not a finite number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_is_allowed(change: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(**change)


@pytest.mark.parametrize("key", ["name", "version", "model", "steps"])
def test_required_keys(key: str) -> None:
    data = demo_data()
    del data[key]
    with pytest.raises(RecipeError, match=key):
        recipes.parse(yaml.safe_dump(data))


def test_steps_out_of_phase_say_why() -> None:
    steps = demo_data()["steps"]
    with pytest.raises(
        RecipeError, match=r"steps.1: fuse_qkv \(REWRITE\) comes after quantize \(QUANTIZE\).*lose precision"
    ):
        parse(steps=[steps[2], steps[0]])
    with pytest.raises(RecipeError, match="quantize .* comes after compile"):
        parse(steps=[steps[3], steps[2]])


def test_the_name_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(DEMO.read_text())
    with pytest.raises(RecipeError, match="name is 'flux_mini_int8', but the file is called other.yaml"):
        recipes.read(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scheme", "write KEY=VALUE"),
        ("steps.9.quantize.scheme=x", "'9' is no index here; the list has 4 entries"),
        ("steps.2.quantise.scheme=x", "there is no 'quantise' here"),
        ("name.first=x", "name is a single value"),
        ("steps.2.quantize.shceme=x", r"unknown key 'shceme'; did you mean 'scheme'\?"),
        ("version=[", "not valid YAML"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipes.read(DEMO, [override])


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
), st.sampled_from(["name", "version", "model", "call", "shapes", "steps", "verify", "summary"]))  # fmt: skip
def test_no_value_anywhere_raises_anything_but_a_recipe_error(value: object, key: str) -> None:
    try:
        recipes.parse(json.dumps(demo_data() | {key: value}))
    except RecipeError as error:
        assert key in str(error) or "not valid YAML" in str(error) or "keys are plain words" in str(error)


def test_the_schema_agrees_with_the_reader() -> None:
    schema = recipes.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(demo_data(), schema)
    for change in ({"stpes": []}, {"version": "one"}, {"steps": [{"quantise": {}}]}, {"steps": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(demo_data() | change, schema)
