"""The types of `qcompile.json`."""

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any, Literal, Self

import pydantic

from qcompile.change import Change
from qcompile.environment import Environment
from qcompile.package import CallSpec, Package

FORMAT_VERSION = 1
MANIFEST = "qcompile.json"
RECIPE = "recipe.yaml"

FAULTS = {
    "no_folder": "there is no such folder",
    "no_manifest": "the folder has no qcompile.json",
    "bad_manifest": "qcompile.json is not what the format says",
    "newer_format": "the artifact was written by a later qcompile",
    "changed_manifest": "qcompile.json does not have the digest it names",
    "escaping_path": "the artifact names a path outside its folder",
    "link": "the folder holds a symbolic link or a special file",
    "unreadable": "a file can't be read",
    "missing_file": "a file the manifest names is not there",
    "extra_file": "a file is there that the manifest does not name",
    "changed_file": "a file does not have the digest the manifest names",
    "foreign_class": "model_index.json names a class that is foreign to diffusers, transformers or the manifest",
    "foreign_code": "a file holds code or pickled data, or leads to some outside of the artifact",
    "bad_recipe": "a step of recipe.yaml acts on what is no model of the artifact",
    "bad_tensors": "tensors do not fit the model",
    "exists": "the output folder is there already",
    "not_an_artifact": "the output folder holds something else",
    "unwritable": "the output folder can't be made",
}
"""Every `ArtifactError.fault` and what it means."""
HOSTILE = "No qcompile writes that: do not use this artifact."
"""How messages end about what no accident explains."""
DAMAGED = "Copy the artifact again, or make it anew with `qcompile apply`."
"""How messages end about what an accident explains."""

# Holds for the plain dataclasses in Manifest too (Change, CallSpec, Package, Environment).
_RECORD = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
_SHA256 = r"^[0-9a-f]{64}$"
_DIGEST = re.compile(rb'"manifest_sha256": "([0-9a-f]{64})"')
_NO_DIGEST = b'"manifest_sha256": "' + b"0" * 64 + b'"'


class FileRecord(pydantic.BaseModel):
    """One file of the artifact."""

    model_config = _RECORD

    sha256: str = pydantic.Field(pattern=_SHA256)
    """Digest of the file's content."""
    bytes: int = pydantic.Field(ge=0)
    """Size of the file."""


class RecipeRecord(pydantic.BaseModel):
    """The recipe that made it; its text is in recipe.yaml."""

    model_config = _RECORD

    name: str
    """The recipe's name."""
    version: int
    """The recipe's own version."""
    sha256: str = pydantic.Field(pattern=_SHA256)
    """Digest of the recipe's content as JSON with sorted keys; it depends on neither comments nor layout."""


class ModelRecord(pydantic.BaseModel):
    """The model it was made from."""

    model_config = _RECORD

    kind: Literal["pipeline", "model"]
    """What `load` gives back: a diffusers pipeline, or a bare model."""
    class_name: str
    """Pipeline class, or model class for a bare model; a class of diffusers or transformers."""
    id: str | None
    """Hub id, folder, or `builtin:NAME`, as the recipe names it; null where it names none."""
    revision: str | None
    """Commit, branch or tag on the Hub."""
    dtype: Literal["bfloat16", "float16", "float32"]
    """Dtype of the weights that are not quantized."""


class ComponentRecord(pydantic.BaseModel):
    """One component that is a model."""

    model_config = _RECORD

    class_name: str
    """Its class in diffusers or transformers."""
    stored: Literal["diffusers", "qcompile"]
    """`diffusers`: as `save_pretrained` writes it. `qcompile`: rewritten or quantized, see FORMAT.md."""
    bytes_before: int = pydantic.Field(ge=0)
    """Stored bytes of its tensors before the recipe."""
    bytes_after: int = pydantic.Field(ge=0)
    """Stored bytes of its tensors after the recipe, as planned."""


class ShapeRecord(pydantic.BaseModel):
    """One declared shape."""

    model_config = _RECORD

    height: int | None
    """Pixels; null where the call names none."""
    width: int | None
    """Pixels; null where the call names none."""
    batch: int
    """Images of one call."""
    frames: int | None
    """Frames of a video pipeline; null for images."""


class Verification(pydantic.BaseModel):
    """What was measured before the artifact was put in place; relative errors are ‖a − b‖ / ‖b‖."""

    model_config = _RECORD

    quantized_relative_error: dict[str, pydantic.FiniteFloat]
    """Denoiser output, quantized against the original, by shape label."""
    compiled_relative_error: dict[str, pydantic.FiniteFloat]
    """Denoiser output, compiled against eager with the same weights, by shape label; empty without packages."""
    image_psnr_db: pydantic.FiniteFloat | None
    """quantized.png against reference.png in dB; null where they are equal or there are none."""
    seed: int
    """Seed of the noise of both images."""
    step_relative_error: tuple[pydantic.FiniteFloat, ...] = ()
    """Denoiser output at every call along the original's own trajectory for the first shape, against the original."""
    image_ssim: pydantic.FiniteFloat | None = None
    """Structural similarity of quantized.png to reference.png; null where there are none."""
    score_loss_points: pydantic.FiniteFloat | None = None
    """Points of the model's task score that were lost; null where the recipe sets no bound on it."""


class Manifest(pydantic.BaseModel):
    """The content of qcompile.json."""

    model_config = _RECORD

    manifest_sha256: str = pydantic.Field("0" * 64, pattern=_SHA256)
    """Digest of this file with these 64 digits as zeros."""
    format_version: Literal[1] = 1
    """Version of the format; a reader refuses a later one than its own."""
    qcompile: str
    """Version of qcompile that wrote it."""
    recipe: RecipeRecord
    """The recipe that made it."""
    model: ModelRecord
    """The model it was made from."""
    environment: Environment
    """The machine and versions it was made with."""
    denoiser: str
    """Name of the component that is called at every step."""
    call: dict[str, pydantic.JsonValue]
    """How the pipeline was called to capture inputs and to paint the images."""
    shapes: dict[str, ShapeRecord] = pydantic.Field(min_length=1)
    """Declared shapes by label."""
    components: dict[str, ComponentRecord]
    """Components that are models, by name."""
    changes: tuple[Change, ...]
    """What was done to each module, or why not, in the order of the recipe's steps."""
    calls: dict[str, CallSpec]
    """The denoiser's call specs by shape label."""
    packages: tuple[Package, ...]
    """Compiled code; empty where nothing was compiled ahead of time."""
    verification: Verification
    """What was measured."""
    files: dict[str, FileRecord]
    """Every file but qcompile.json, by path with forward slashes."""

    @pydantic.model_validator(mode="after")
    def _numbers_are_finite(self) -> Self:
        """JSON has no others, but its parsers do."""
        for place, value in (("call", self.call), *_floats_of(self.packages)):
            for inner, number in _not_finite(value, place):
                raise ValueError(f"{inner} is {number}; a finite number is needed")
        return self

    @pydantic.model_validator(mode="after")
    def _names_exist(self) -> Self:
        """What one record names, another one defines."""
        for place, names, known in (
            ("denoiser", {self.denoiser}, self.components),
            ("changes", {change.component for change in self.changes}, self.components),
            ("packages", {package.component for package in self.packages}, self.components),
            ("packages", {label for package in self.packages for label in package.shapes}, self.shapes),
            ("calls", self.calls.keys(), self.shapes),
        ):
            for name in sorted(names - known.keys()):
                raise ValueError(f"{place} names {name!r}, of which the manifest has no record")
        return self


def _floats_of(packages: tuple[Package, ...]) -> Iterator[tuple[str, Any]]:
    """(place, value) of what may hold fractions; pydantic lets dataclasses have any of them."""
    for index, package in enumerate(packages):
        for name in ("output", "inductor", "relative_errors", "build_seconds"):
            yield f"packages.{index}.{name}", getattr(package, name)


def _not_finite(value: Any, place: str) -> Iterator[tuple[str, float]]:
    """(place, number) of each number in plain data that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    if isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_finite(inner, f"{place}.{key}")


def from_bytes(content: bytes) -> Manifest:
    """The manifest that the bytes of a qcompile.json stand for; its digest is not looked at.

    Raises:
        pydantic.ValidationError: a field is missing, unknown, of another type, or names what is not there.
    """
    return Manifest.model_validate_json(content)


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest as the bytes of qcompile.json, its own digest filled in."""
    blank = manifest.model_copy(update={"manifest_sha256": "0" * 64})
    text = blank.model_dump_json(indent=1).encode() + b"\n"
    return text.replace(_NO_DIGEST, b'"manifest_sha256": "' + hashlib.sha256(text).hexdigest().encode() + b'"', 1)


def digest_holds(content: bytes) -> bool:
    """Whether the bytes of a qcompile.json have the digest they name."""
    named = _DIGEST.search(content)
    if named is None:
        return False
    blank = content[: named.start()] + _NO_DIGEST + content[named.end() :]
    return hashlib.sha256(blank).hexdigest().encode() == named.group(1)


def schema() -> dict[str, Any]:
    """The JSON schema of manifests, for `serialization/manifest.schema.json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Manifest.model_json_schema(),
        "title": "qcompile manifest",
    }
