"""A recipe: YAML text -> frozen `Recipe`, or a `RecipeError` that names file, line, key, and what is allowed there."""

import copy
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from qcompile.document import Document, Place, exponent_hint, parse_document, read_document
from qcompile.errors import RecipeError, nearest
from qcompile.header import Bounds, Header, ModelSource, Shape
from qcompile.steps import STEPS, Step
from qcompile.steps.inductor import Inductor

__all__ = ["DENOISER", "Bounds", "Header", "ModelSource", "Recipe", "Shape", "from_document", "parse", "read", "schema"]
Model = TypeVar("Model", bound=pydantic.BaseModel)
DENOISER = "denoiser"
"""Component name that stands for the denoiser, whatever the pipeline calls it."""


@dataclass(frozen=True)
class Recipe:
    """A recipe that is well formed; whether it fits its model is the planner's to say."""

    header: Header
    steps: tuple[Step, ...]
    data: dict[str, Any] = field(repr=False)
    """The recipe as plain data, overrides applied."""
    model_place: str = field(default="model.id", repr=False, compare=False)
    """Where the model's id was named, for messages: `--model` where the command line has it."""

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.header.name

    def to_yaml(self) -> str:
        """The recipe after overrides, as YAML text."""
        return yaml.safe_dump(self.data, sort_keys=False, allow_unicode=True, width=120)

    def inductor_options(self, index: int) -> dict[str, Any]:
        """Compiler options that `inductor` steps before `index` set for the component of step `index`."""
        owner = self.steps[index].owner
        return {
            name: value
            for step in self.steps[:index]
            if isinstance(step, Inductor) and step.owner == owner
            for name, value in step.options.items()
        }

    def naming(self, denoiser: str) -> "Recipe":
        """The same recipe with the component called `denoiser` under its real name."""
        if all(step.owner != DENOISER for step in self.steps):
            return self
        data = copy.deepcopy(self.data)
        for entry in data["steps"]:
            for options in entry.values():
                if options and options.get("component") == DENOISER:
                    options["component"] = denoiser
        steps = tuple(
            step.model_copy(update={"component": denoiser}) if step.owner == DENOISER else step for step in self.steps
        )
        return Recipe(self.header, steps, data, self.model_place)

    @property
    def digest(self) -> str:
        """sha256 of the recipe's content, independent of comments and layout."""
        return hashlib.sha256(json.dumps(self.data, sort_keys=True).encode()).hexdigest()


def read(path: str | Path, overrides: Iterable[str] = (), model: str | None = None) -> Recipe:
    """Read a recipe file.

    Args:
        path: the YAML file; its name without suffix is the recipe's name.
        overrides: `KEY=VALUE` with a dotted key such as `steps.3.quantize.scheme=int8_dynamic`; values are YAML.
        model: takes the place of `model.id`.

    Raises:
        RecipeError: the file or an override is wrong.
    """
    path = Path(path)
    recipe = from_document(_override(read_document(path), overrides, model))
    if recipe.name != path.stem:
        raise RecipeError(
            f"{path}: name is {recipe.name!r}, but the file is called {path.name}; name the one after the other."
        )
    return recipe


def parse(text: str, source: str = "recipe.yaml", overrides: Iterable[str] = (), model: str | None = None) -> Recipe:
    """Read a recipe from YAML text; see `read`."""
    return from_document(_override(parse_document(text, source), overrides, model))


def from_document(document: Document) -> Recipe:
    """Check plain data and make a recipe of it.

    Raises:
        RecipeError: unknown or missing keys, wrong types or values, steps out of phase.
    """
    _refuse_infinite(document, document.data, ())
    header = {key: value for key, value in document.data.items() if key != "steps"}
    parsed = _validate(Header, header, document, (), also=("steps",))
    entries = document.data.get("steps")
    if not isinstance(entries, list) or not entries:
        raise RecipeError(f"{document.where(('steps',))}: a list of one or more steps is needed; {_valid_steps()}.")
    steps = tuple(_step(entry, document, ("steps", index)) for index, entry in enumerate(entries))
    _check_phases(steps, document)
    labels = [shape.label for shape in parsed.shapes]
    for index, label in enumerate(labels):
        if label in labels[:index]:
            raise RecipeError(f"{document.where(('shapes', index))}: {label} is declared twice; keep one of them.")
    return Recipe(parsed, steps, document.data, document.option(("model", "id")) or "model.id")


def schema() -> dict[str, Any]:
    """The JSON schema of recipes, for editors and for `serialization/recipe.schema.json`."""
    result = Header.model_json_schema()
    definitions = result.setdefault("$defs", {})
    entries = []
    for step in STEPS:
        own = step.model_json_schema()
        definitions.update(own.pop("$defs", {}))
        definitions[step.__name__] = own
        reference = {"$ref": f"#/$defs/{step.__name__}"}
        entries.append(
            {
                "type": "object",
                "properties": {step.kind: reference},
                "required": [step.kind],
                "additionalProperties": False,
            }
        )
    result["properties"]["steps"] = {
        "description": "what is done to the model, in this order; each entry is one step under its name",
        "type": "array",
        "minItems": 1,
        "items": {"oneOf": entries},
    }
    result["required"].append("steps")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result, "title": "qcompile recipe"}


def _step(entry: Any, document: Document, place: Place) -> Step:
    kinds = {step.kind: step for step in STEPS}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise RecipeError(f"{document.where(place)}: a step is one key with its options below it; {_valid_steps()}.")
    kind, options = next(iter(entry.items()))
    if kind not in kinds:
        raise RecipeError(f"{document.where((*place, kind))}: there is no step {kind!r}; {nearest(kind, kinds)}.")
    return _validate(kinds[kind], options if options is not None else {}, document, (*place, kind))


def _check_phases(steps: tuple[Step, ...], document: Document) -> None:
    for index, (before, step) in enumerate(pairwise(steps), start=1):
        if step.phase < before.phase:
            raise RecipeError(
                f"{document.where(('steps', index))}: {step.kind} ({step.phase.name}) comes after {before.kind} "
                f"({before.phase.name}). {_WHY_ORDER[before.phase]} The order is LORA, REWRITE, QUANTIZE, COMPILE: "
                f"move steps.{index} up."
            )


_WHY_ORDER = {
    0: "",
    1: "Adapters are fused into the layers the model came with.",
    2: "Fusing or rewriting layers whose weights are quantized already would lose precision.",
    3: "Compiled code is made for the layers as they are when it is built.",
}


def _validate(model: type[Model], data: Any, document: Document, place: Place, also: tuple[str, ...] = ()) -> Model:
    try:
        # Through JSON, since strict validation of Python data would refuse lists where tuples are declared.
        return model.model_validate_json(json.dumps(data), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(_explain(model, first, document, place, also)) from error


def _explain(
    model: type[pydantic.BaseModel], error: Any, document: Document, place: Place, also: tuple[str, ...]
) -> str:
    at = (*place, *error["loc"])
    if error["type"] == "extra_forbidden":
        known = (*_fields(model, error["loc"][:-1]), *(also if len(error["loc"]) == 1 else ()))
        return f"{document.where(at)}: unknown key {at[-1]!r}; {nearest(str(at[-1]), known)}."
    if error["type"] == "missing":
        return f"{document.where(at[:-1])}: the key {at[-1]!r} is missing."
    message = error["msg"].removeprefix("Value error, ")
    got = error["input"]
    shown = (
        ""
        if error["type"] == "value_error"
        else f", not {json.dumps(got) if not isinstance(got, dict) else 'a mapping'}"
    )
    hint = exponent_hint(got) if error["type"].startswith(("int", "float")) else ""
    return f"{document.where(at)}: {message[0].lower() + message[1:]}{shown}.{f' {hint}.' if hint else ''}"


def _fields(model: type[pydantic.BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """Keys allowed at `place` inside `model`, found through its JSON schema."""
    whole = model.model_json_schema()
    node: Mapping[str, Any] = whole
    for part in place:
        node = _resolve(whole, node)
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return list(_resolve(whole, node).get("properties", {}))


def _resolve(whole: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    node = options[0] if options else node
    return whole["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _override(document: Document, overrides: Iterable[str], model: str | None) -> Document:
    if model is not None:
        found = document.data.setdefault("model", {})
        if isinstance(found, dict):
            found["id"] = model
            found.pop("revision", None)
            document.given["model", "id"] = "--model"
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {override}: write KEY=VALUE, for example steps.0.quantize.scheme=int8_dynamic.")
        value = parse_document(f"value: {text}" if text else "value:", f"--set {key}").data["value"]
        place = _assign(document.data, key.split("."), value, f"--set {key}")
        document.given[place] = f"--set {override}"
    return document


def _assign(data: Any, path: list[str], value: Any, place: str) -> Place:
    """Set one value; gives where it stands."""
    found: list[str | int] = []
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        index: str | int = part
        if isinstance(data, list):
            if not part.isdecimal() or int(part) >= len(data):
                raise RecipeError(f"{place}: {part!r} is no index here; the list has {len(data)} entries, from 0.")
            index = int(part)
        elif not isinstance(data, dict):
            raise RecipeError(f"{place}: {'.'.join(path[:depth])} is a single value; nothing can be set below it.")
        elif not last and part not in data:
            raise RecipeError(f"{place}: there is no {part!r} here; {nearest(part, data)}.")
        found.append(index)
        if last:
            data[index] = value
        else:
            data = data[index]
    return tuple(found)


def _refuse_infinite(document: Document, value: Any, place: Place) -> None:
    """JSON has no infinities, and no option of a recipe takes one."""
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{document.where(place)}: {value} is not a finite number.")
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_infinite(document, inner, (*place, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_infinite(document, inner, (*place, index))


def _valid_steps() -> str:
    return f"valid steps: {', '.join(step.kind for step in STEPS)}"
