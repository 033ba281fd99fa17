"""Recipes that are wrong: one clear paragraph, exit code 2, no traceback, nothing left behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import DEMO, demo_data, eager_steps

from cli.conftest import Result, everything

QUANTIZE = {"component": "transformer", "scheme": "int8_dynamic"}

WRONG = {
    "unknown key": ({"shape": []}, "unknown key 'shape'; did you mean 'shapes'?"),
    "unknown key below": (
        {"verify": {"max_relativ_error": 0.1}},
        "verify.max_relativ_error: unknown key 'max_relativ_error'; did you mean 'max_relative_error'?",
    ),
    "unknown option": (
        {"steps": [{"quantize": QUANTIZE | {"sheme": "x"}}]},
        "steps.0.quantize.sheme: unknown key 'sheme'; did you mean 'scheme'? Allowed here: ",
    ),
    "unknown predicate": (
        {"steps": [{"quantize": QUANTIZE | {"layers": {"where": {"min_row": 1}}}}]},
        "steps.0.quantize.layers.where.min_row: unknown key 'min_row'; did you mean 'min_rows'?",
    ),
    "missing key": ({"steps": [{"quantize": {"component": "transformer"}}]}, "the key 'scheme' is missing"),
    "wrong type": ({"version": "one"}, 'version: input should be a valid integer, not "one"'),
    "wrong type below": (
        {"shapes": [{"height": [128], "width": 128}]},
        "shapes.0.height: input should be a valid integer, not [128]",
    ),
    "unknown step": (
        {"steps": [{"quantise": QUANTIZE}]},
        "steps.0.quantise: there is no step 'quantise'; did you mean 'quantize'? Allowed here: ",
    ),
    "unknown scheme": (
        {"steps": [{"quantize": QUANTIZE | {"scheme": "int8_dynamc"}}]},
        "no scheme is called 'int8_dynamc'; did you mean 'int8_dynamic'? Allowed here: ",
    ),
    "no steps": ({"steps": []}, "steps: a list of one or more steps is needed; valid steps: "),
    "two steps in one": (
        {"steps": [{"quantize": QUANTIZE, "fuse_qkv": {"component": "transformer"}}]},
        "steps.0: a step is one key with its options below it; valid steps: ",
    ),
    "out of phase": (
        {"steps": [*eager_steps()[2:], *eager_steps()[:1]]},
        "steps.1: fuse_qkv (REWRITE) comes after quantize (QUANTIZE).",
    ),
    "infinite": ({"verify": {"max_relative_error": float("inf")}}, "inf is not a finite number"),
}

NO_RECIPE = {
    "a list": ("- a\n- b\n", "this is a list"),
    "a word": ("hello\n", "this is a single value"),
    "nothing": ("", "this is empty"),
    "broken YAML": ("name: [a\nsteps: }\n", "not valid YAML"),
    "a duplicate key": (
        "name: bad\nversion: 1\nname: bad\n",
        "bad.yaml:3: name: the key 'name' is there twice, first on line 1",
    ),
    "a Python object": ("name: !!python/object/apply:os.system [date]\n", "name"),
    "an alias bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "anchors and aliases are not allowed",
    ),
    "nested deeply": ("a: " + "[" * 60 + "]" * 60 + "\n", "nested too deeply"),
    "nested beyond the parser": ("a: " + "[" * 20000 + "]" * 20000 + "\n", "nested too deeply"),
}


@pytest.mark.parametrize(("changes", "piece"), WRONG.values(), ids=[name.replace(" ", "-") for name in WRONG])
def test_a_recipe_that_is_wrong(
    cli: Callable[..., Result], write_recipe: Callable[..., Path], changes: dict, piece: str
) -> None:
    path = write_recipe(**changes)
    before = everything(path.parent)
    for arguments in (("validate", path), ("plan", path), ("apply", path)):
        result = cli(*arguments)
        assert result.code == 2
        assert result.complaint.startswith(f"{path}:")
        assert piece in result.complaint
    assert everything(path.parent) == before


@pytest.mark.parametrize(("text", "piece"), NO_RECIPE.values(), ids=[name.replace(" ", "-") for name in NO_RECIPE])
def test_a_file_that_is_no_recipe(cli: Callable[..., Result], here: Path, text: str, piece: str) -> None:
    (here / "bad.yaml").write_text(text)
    for name in ("validate", "apply"):
        result = cli(name, "bad.yaml")
        assert result.code == 2
        assert result.complaint.startswith("bad.yaml")
        assert piece in result.complaint
    assert everything(here) == {"bad.yaml"}


def test_a_file_of_50_megabytes(cli: Callable[..., Result], here: Path) -> None:
    with (here / "big.yaml").open("wb") as file:
        file.truncate(50_000_000)
    result = cli("validate", "big.yaml")
    assert result.code == 2
    assert "big.yaml: more than 1.0 MB, which is no recipe" in result.complaint


def test_a_file_that_is_no_text(cli: Callable[..., Result], here: Path) -> None:
    (here / "bad.yaml").write_bytes(b"name: \xff\xfe\n")
    assert "not UTF-8 text" in cli("validate", "bad.yaml").complaint
    (here / "folder.yaml").mkdir()
    assert "can't be read" in cli("validate", "folder.yaml").complaint
    assert "can't be read" in cli("validate", "gone.yaml").complaint


def test_a_name_that_is_not_the_files(cli: Callable[..., Result], write_recipe: Callable[..., Path]) -> None:
    result = cli("validate", write_recipe("small").rename("other.yaml"))
    assert result.code == 2
    assert "name is 'small', but the file is called other.yaml" in result.complaint


@pytest.mark.parametrize(
    ("override", "piece"),
    [
        ("version", "write KEY=VALUE"),
        ("steps.9.quantize.scheme=x", "'9' is no index here; the list has 3 entries"),
        ("steps.²=x", "'²' is no index here"),
        ("verify.max_step_error=1e-2", 'a valid number, not "1e-2". YAML reads 1e-2 as text; write 0.01.'),
        ("call.guidance_scale=1e1", "Mend the recipe's call. YAML reads 1e1 as text; write 10."),
        ("version=two", "--set version=two: version: input should be a valid integer"),
        ("steps.2.quantize.schem=x", "--set steps.2.quantize.schem=x: steps.2.quantize.schem: unknown key"),
        ("steps.2.quantise.scheme=x", "there is no 'quantise' here; did you mean 'quantize'?"),
        ("version.major=1", "version is a single value"),
        ("steps.2.quantize.scheme=int9", "no scheme is called 'int9'"),
        ("verify={", "not valid YAML"),
        ("call=*a", "not valid YAML"),
    ],
    ids=[
        "no-value",
        "no-index",
        "no-digit",
        "exponent",
        "exponent-in-call",
        "no-number",
        "unknown",
        "no-key",
        "below-a-value",
        "no-scheme",
        "no-yaml",
        "alias",
    ],
)
def test_an_override_that_is_wrong(
    cli: Callable[..., Result], write_recipe: Callable[..., Path], override: str, piece: str
) -> None:
    path = write_recipe()
    result = cli("apply", path, "--set", override)
    assert result.code == 2
    assert piece in result.complaint
    assert everything(path.parent) == {"small.yaml"}


def layers(key: str, pattern: str) -> list[dict]:
    steps = yaml.safe_load(yaml.safe_dump(demo_data()["steps"][:3]))
    steps[2]["quantize"]["layers"][key] = [pattern]
    return steps


@pytest.mark.parametrize(
    ("changes", "piece"),
    [
        (
            {"steps": layers("include", "transformer_block.**")},
            "steps.2.quantize.layers.include: 'transformer_block.**' matches no linear",
        ),
        ({"steps": layers("exclude", "**.nrm*.**")}, "steps.2.quantize.layers.exclude: '**.nrm*.**' matches no linear"),
        (
            {"steps": layers("include", "transformer_blocks.*")},
            "other modules such as 'transformer_blocks.0', but none of them is a linear",
        ),
        (
            {"steps": [{"quantize": QUANTIZE | {"component": "unet"}}]},
            "steps.0.quantize.component: the model has no component 'unet'; allowed here: ",
        ),
        (
            {
                "steps": [
                    {
                        "quantize": QUANTIZE
                        | {"layers": {"include": ["transformer_blocks.**"], "where": {"min_rows": 99999}}}
                    }
                ]
            },
            "is left alone because: rows under min_rows 99999",
        ),
        ({"call": {"promt": "a"}}, "call.promt: FluxPipeline takes no 'promt'; did you mean 'prompt'?"),
        ({"call": {"prompt": "a", "height": 128}}, "call.height: sizes are declared under shapes"),
        ({"call": {"prompt": "a", "return_dict": False}}, "call.return_dict: how the pipeline gives back its pictures"),
        (
            {"call": {"prompt": "a", "output_type": "latent"}},
            "call.output_type: 'latent' is none of qcompile's, whose commands make pictures; allowed is pil",
        ),
        ({"call": {"prompt": None}}, "call: FluxPipeline can't be called with it (prompt: None): Provide either"),
        ({"call": {"prompt": "a", "num_inference_steps": "abc"}}, "num_inference_steps: 'abc'"),
        ({"call": {"prompt": "a", "num_inference_steps": 0}}, "Mend the recipe's call"),
        (
            {"shapes": [{"height": 128, "width": 128}, {"height": 129, "width": 128}]},
            "shapes.1.height: 129 is no multiple of 8, which FluxPipeline needs; it would round it. Use 128 or 136.",
        ),
    ],
    ids=[
        "include",
        "exclude",
        "no-linear",
        "component",
        "rows",
        "argument",
        "size-in-call",
        "tuple",
        "latents",
        "empty",
        "word",
        "zero",
        "size",
    ],
)
def test_a_recipe_that_does_not_fit_its_model(
    cli: Callable[..., Result], write_recipe: Callable[..., Path], changes: dict, piece: str
) -> None:
    path = write_recipe(**changes)
    for name in ("plan", "apply"):
        result = cli(name, path)
        assert result.code == 2
        assert piece in result.complaint
    assert everything(path.parent) == {"small.yaml"}


@pytest.mark.parametrize("words", [("apply", DEMO, "--out", ""), ("bench", DEMO, "--out", "")])
def test_a_name_that_is_empty(cli: Callable[..., Result], here: Path, words: tuple) -> None:
    """A shell variable that is not set."""
    result = cli(*words)
    assert result.code == 2
    assert "--out: the name is empty" in result.complaint
    assert everything(here) == set()


@pytest.mark.parametrize(
    ("words", "piece"),
    [
        (("--seed", "99999999999999999999"), "argument --seed: '99999999999999999999' is no whole number from 0 to"),
        (("--seed=-1",), "argument --seed: '-1' is no whole number"),
        (("--guidance", "nan"), "argument --guidance: 'nan' is no finite number"),
        (("--guidance", "much"), "argument --guidance: 'much' is no finite number"),
        (
            ("--height", "100"),
            "--height: 100 is no multiple of 8, which FluxPipeline needs; it would round it. Use 96 or 104.",
        ),
        (("--width", "3"), "--width: 3 is no multiple of 8, which FluxPipeline needs; it would round it. Use 8."),
    ],
)
def test_values_that_generate_can_not_have(
    cli: Callable[..., Result], here: Path, eager_artifact: Path, words: tuple, piece: str
) -> None:
    result = cli("generate", eager_artifact, "--prompt", "a", *words)
    assert result.code == 2
    assert piece in result.complaint
    assert everything(here) == set()


@pytest.mark.parametrize(
    "words",
    [("apply", DEMO), ("apply", DEMO, "--dry-run"), ("apply", DEMO, "--overwrite"), ("new", "mine", "--from", DEMO)],
    ids=lambda words: "-".join(word for word in words if isinstance(word, str)),
)
@pytest.mark.parametrize("named", [True, False], ids=["named", "current"])
def test_nothing_is_made_in_an_artifact(
    cli: Callable[..., Result], eager_artifact: Path, monkeypatch: pytest.MonkeyPatch, words: tuple, named: bool
) -> None:
    before = everything(eager_artifact)
    if not named:
        monkeypatch.chdir(eager_artifact)
    result = cli(*words, *(["--out", eager_artifact / "mine.yaml"] if named else []))
    assert result.code == 2
    assert "is an artifact, which takes no other files. Choose a place outside it" in result.complaint
    assert everything(eager_artifact) == before


@pytest.mark.parametrize(
    "words",
    [("generate", "--prompt", "a", "--out", "y.png"), ("compare", "--out", "y.png"), ("profile", "--trace", "y.json")],
    ids=lambda words: words[0],
)
def test_no_file_is_put_into_an_artifact(cli: Callable[..., Result], eager_artifact: Path, words: tuple) -> None:
    *options, name = words[1:]
    before = everything(eager_artifact)
    result = cli(words[0], eager_artifact, *options, eager_artifact / name)
    assert result.code == 2
    assert "is an artifact, which takes no other files. Choose a place outside it" in result.complaint
    assert everything(eager_artifact) == before
