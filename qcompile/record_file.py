"""Records of `qcompile bench` and `qcompile verify` as JSON files, which anyone may have written."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import pydantic

from qcompile.environment import Environment
from qcompile.errors import ArtifactError, MachineError, ModelError
from qcompile.outside import refuse_inside_artifact

_HINT = "Choose another place."
MAX_BYTES = 32 << 20
"""A record of every layer of the largest model has about a megabyte."""

_SURROGATES = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    """Text that a file and a terminal can take: where bytes of a command line or a path are no UTF-8, Python has
    surrogates, which nothing can write."""
    return _SURROGATES.sub("�", text)


Text = Annotated[str, pydantic.AfterValidator(encodable)]
"""What users, paths and messages of errors say."""


class RecipeRun(pydantic.BaseModel):
    """What every record says: what was run, on which recipe, when and where."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    format: Literal[1] = 1
    """Version of this layout."""
    command: Text
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
        # Not by its size: that of a device is 0, and /dev/zero has no end.
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ModelError(
                f"{path} is no record of `{command}`: it has more than {MAX_BYTES} bytes, and no record has. {make}"
            )
        return kind.model_validate_json(content)
    except OSError as error:
        raise ModelError(
            f"{path} is no record of `{command}`: it can't be read ({error.strerror or error}). {make}"
        ) from error
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        raise ModelError(f"{path} is no record of `{command}`: {place}{first['msg']}. {make}") from error


def check_record_file(kind: type[pydantic.BaseModel], path: Path, command: str) -> None:
    """Refuse a file that no record can be written to, before hours are spent on it. Nothing is made.

    Args:
        kind: the record's type.
        path: the file, which need not be there.
        command: what writes such files, for messages.

    Raises:
        ArtifactError: a folder is called so, the file is there and no such record, it would be part of an artifact, or
            the nearest folder that is there can't be written.
    """
    if path.is_dir():
        raise ArtifactError("unwritable", f"--record {path} is a folder. Name a file.")
    check_record_folder(path.parent, path)
    _refuse_others(kind, path, command)


def check_record_folder(folder: Path, named: Path) -> None:
    """Refuse a folder that no record can be written to.

    Args:
        folder: need not be there.
        named: what the user named, for messages.

    Raises:
        ArtifactError: it is an artifact or part of one, or the nearest folder that is there can't be written.
    """
    refuse_inside_artifact(folder / named.name, "--record")
    there = next(found for found in (folder, *folder.absolute().parents) if found.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ArtifactError("unwritable", f"--record {named}: nothing can be written under {there}. {_HINT}")


def write_record_file(record: pydantic.BaseModel, path: Path, command: str) -> None:
    """Write a record as JSON, in one go: an interruption leaves what was there before.

    Raises:
        MachineError: it can't be written.
        ArtifactError: the file is there and something else than such a record.
    """
    _refuse_others(type(record), path, command)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise MachineError(f"--record {path}: can't be written ({error.strerror or error}). {_HINT}") from error
    finally:
        partial.unlink(missing_ok=True)


def _refuse_others(kind: type[pydantic.BaseModel], path: Path, command: str) -> None:
    """Only a record of the same kind is overwritten: not a recipe, not what another command wrote."""
    if not path.exists() or path.is_dir():
        return
    try:
        read_record_file(kind, path, command)
    except ModelError as error:
        raise ArtifactError("unwritable", f"--record {path} is there and no record of `{command}`. {_HINT}") from error
