"""A JSON record read from a file that anyone may have written: those of `qcompile bench` and `qcompile verify`."""

from pathlib import Path
from typing import Literal, TypeVar

import pydantic

from qcompile.environment import Environment
from qcompile.errors import ModelError

MAX_BYTES = 32 << 20
"""A record of every layer of the largest model has about a megabyte."""


class RecipeRun(pydantic.BaseModel):
    """What every record says: what was run, on which recipe, when and where."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    format: Literal[1] = 1
    """Version of this layout."""
    command: str
    """What makes it again."""
    date: str
    """Day, as YYYY-MM-DD."""
    recipe: str
    """The recipe's name."""
    recipe_version: int
    """Its version."""
    recipe_sha256: str
    """Digest of its content."""
    environment: Environment
    """Machine and versions."""


_Record = TypeVar("_Record", bound=pydantic.BaseModel)


def read_record_file(kind: type[_Record], path: Path, command: str) -> _Record:
    """The record of type `kind` that a file holds.

    Args:
        kind: the record's type.
        path: the file.
        command: what writes such files, for messages: `qcompile bench`.

    Raises:
        ModelError: the file can't be read, is too large, or is no such record; names the first place that is wrong.
    """
    make = f"Make one with `{command} … --record FILE`."
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelError(
                f"{path} is no record of `{command}`: it has {size} bytes, and a record at most {MAX_BYTES}. {make}"
            )
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{path} is no record of `{command}`: it can't be read ({error.strerror or error}). {make}"
        ) from error
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        raise ModelError(f"{path} is no record of `{command}`: {place}{first['msg']}. {make}") from error
