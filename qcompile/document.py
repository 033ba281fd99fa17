"""YAML text -> plain data, with the line of every value. Safe loader, no duplicate keys, no aliases, bounded size."""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from qcompile.errors import RecipeError

MAX_BYTES = 1 << 20
"""Recipes are a page long; a file of more than a mebibyte is a mistake."""
MAX_DEPTH = 40
MAX_SHOWN = 80
"""Characters of a value that messages repeat."""

_EXPONENT = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{0,20})?[eE][-+]?[0-9]{1,2}")

Place = tuple[str | int, ...]
"""Where a value stands: keys and list indices from the top."""


@dataclass
class Document:
    """Plain data (mappings, lists, strings, numbers, booleans, None) and where it came from."""

    data: dict[str, Any]
    source: str
    """File name for messages."""
    lines: dict[Place, int] = field(default_factory=dict)
    """Line of each value, from 1."""
    given: dict[Place, str] = field(default_factory=dict)
    """Options of the command line that values came from."""

    def where(self, place: Place) -> str:
        """`file.yaml:12: steps.1.quantize`, as far as the line is known."""
        option = self.option(place)
        if option:
            return f"{option}: {'.'.join(map(str, place))}"
        known = place
        while known and known not in self.lines:
            known = known[:-1]
        line = f":{self.lines[known]}" if known in self.lines else ""
        dotted = ".".join(map(str, place))
        return f"{self.source}{line}: {dotted}" if dotted else f"{self.source}{line}"

    def option(self, place: Place) -> str | None:
        """The option of the command line that a value came from; None where the text has it."""
        return next((self.given[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.given), None)


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        RecipeError: it can't be read, is too large, or is no valid YAML mapping.
    """
    try:
        # Not by its size: that of a device is 0, and /dev/zero has no end.
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RecipeError(
                f"{path}: more than {MAX_BYTES / 1e6:.1f} MB, which is no recipe; recipes are text files. Name the "
                ".yaml file of a recipe."
            )
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text (byte {error.start}). Recipes are YAML text files.") from error
    except OSError as error:
        raise RecipeError(f"{path}: can't be read ({error.strerror}). Name the .yaml file of a recipe.") from error
    return parse_document(text, str(path))


def parse_document(text: str, source: str) -> Document:
    """Parse YAML text; `source` names it in messages.

    Raises:
        RecipeError: no valid YAML, not a mapping, a duplicate key, an alias, or nested too deeply.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecipeError(f"{source}{line}: not valid YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: not valid YAML: {str(error).splitlines()[0]}.") from error
    except (ValueError, OverflowError) as error:  # an escape such as \UFFFFFFFF, a version of YAML without end
        line = f":{loader.get_mark().line + 1}"
        raise RecipeError(f"{source}{line}: not valid YAML: a number there is too large ({error}).") from error
    except RecursionError as error:
        raise RecipeError(f"{source}: nested too deeply for a recipe (at most {MAX_DEPTH} levels).") from error
    if not isinstance(node, yaml.MappingNode):
        kind = "empty" if node is None else "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        raise RecipeError(
            f"{source}: a recipe is a YAML mapping with the keys name, version, model and steps; this is {kind}."
        )
    reader = _Reader(source)
    data = reader.value(node, ())
    return Document(data, source, reader.lines)


def exponent_hint(value: Any) -> str:
    """How to write a number such as 1e-2, which is text by YAML 1.1 without its point and sign; empty for all others.

    It is not read as a number: what qcompile and others wrote as text would not come back as text.
    """
    if not isinstance(value, str) or not _EXPONENT.fullmatch(value):
        return ""
    return f"YAML reads {value} as text; write {Decimal(value):f}"


class _Reader:
    """Builds plain data from YAML nodes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[Place, int] = {}
        self._seen: set[int] = set()
        self._scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, place: Place) -> Any:
        line = node.start_mark.line + 1
        here = f"{self.source}:{line}: {'.'.join(map(str, place))}".rstrip(": ")
        if id(node) in self._seen:
            # A few nested aliases stand for billions of values.
            raise RecipeError(f"{here}: anchors and aliases are not allowed in recipes; write the value out.")
        if len(place) > MAX_DEPTH:
            raise RecipeError(f"{here}: nested too deeply for a recipe (at most {MAX_DEPTH} levels).")
        self._seen.add(id(node))
        self.lines[place] = line
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place, here)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(inner, (*place, index)) for index, inner in enumerate(node.value)]
        text = node.value if len(node.value) <= MAX_SHOWN else f"{node.value[:MAX_SHOWN]}…"
        try:
            scalar = self._scalars.construct_object(node, deep=True)
        except yaml.YAMLError as error:
            raise RecipeError(f"{here}: {text!r} can't be read: {str(error).splitlines()[0]}.") from error
        except (ValueError, LookupError, AttributeError, ArithmeticError) as error:
            # yaml takes what stands behind a tag for what the tag says, and fails in the middle of reading it.
            kind = node.tag.rpartition(":")[2]
            raise RecipeError(f"{here}: {text!r} can't be read as {kind}; quote it if it is text.") from error
        if not isinstance(scalar, str | int | float | bool | None):
            raise RecipeError(f"{here}: a {type(scalar).__name__} ({text!r}) has no place in a recipe; quote it.")
        if isinstance(scalar, int) and not -(2**63) <= scalar < 2**63:
            raise RecipeError(
                f"{here}: {text} does not fit into 64 bits, as whole numbers of a recipe do; quote it if it is text."
            )
        return scalar

    def _mapping(self, node: yaml.MappingNode, place: Place, here: str) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise RecipeError(
                    f"{here}: keys are plain words; line {key_node.start_mark.line + 1} has another kind of key."
                )
            if key in data:
                raise RecipeError(
                    f"{self.source}:{key_node.start_mark.line + 1}: {'.'.join(map(str, (*place, key)))}: the key "
                    f"{key!r} is there twice, first on line {self.lines[(*place, key)]}. Keep one of them."
                )
            data[key] = self.value(value_node, (*place, key))
            self.lines[(*place, key)] = key_node.start_mark.line + 1
        return data
