"""The types of `qcompile.json`."""

import re
from typing import Any, Literal

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
    "escaping_path": "the manifest names a path outside the folder",
    "link": "the folder holds a symbolic link or a special file",
    "missing_file": "a file the manifest names is not there",
    "extra_file": "a file is there that the manifest does not name",
    "changed_file": "a file does not have the digest the manifest names",
    "foreign_class": "model_index.json names a class outside diffusers and transformers",
    "bad_tensors": "tensors do not fit the model",
    "exists": "the output folder is there already",
    "not_an_artifact": "the output folder holds something else",
    "unwritable": "the output folder can't be made",
}
"""Every `ArtifactError.fault` and what it means."""

_FROZEN = pydantic.ConfigDict(frozen=True, extra="forbid")
_DIGEST = re.compile(rb'"manifest_sha256": "([0-9a-f]{64})"')
_NO_DIGEST = b'"manifest_sha256": "' + b"0" * 64 + b'"'


class FileRecord(pydantic.BaseModel):
    """One file of the artifact."""

    model_config = _FROZEN

    sha256: str = pydantic.Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = pydantic.Field(ge=0)


class RecipeRecord(pydantic.BaseModel):
    """The recipe that made it; its text is in recipe.yaml."""

    model_config = _FROZEN

    name: str
    version: int
    sha256: str = pydantic.Field(pattern=r"^[0-9a-f]{64}$", description="of the recipe's content as canonical JSON")


class ModelRecord(pydantic.BaseModel):
    """The model it was made from."""

    model_config = _FROZEN

    kind: Literal["pipeline", "model"]
    class_name: str = pydantic.Field(description="pipeline class, or model class for a bare model")
    id: str
    revision: str | None
    dtype: str


class ComponentRecord(pydantic.BaseModel):
    """One component that is a model."""

    model_config = _FROZEN

    class_name: str
    stored: Literal["diffusers", "qcompile"] = pydantic.Field(
        description="diffusers: as save_pretrained writes it. qcompile: rewritten or quantized, see FORMAT.md"
    )
    bytes_before: int
    bytes_after: int


class ShapeRecord(pydantic.BaseModel):
    """One declared shape."""

    model_config = _FROZEN

    height: int | None
    width: int | None
    batch: int
    frames: int | None


class Verification(pydantic.BaseModel):
    """What was measured before the artifact was put in place; relative errors are ‖a − b‖ / ‖b‖."""

    model_config = _FROZEN

    quantized_relative_error: dict[str, float] = pydantic.Field(
        description="denoiser output, quantized against the original, by shape"
    )
    compiled_relative_error: dict[str, float] = pydantic.Field(
        description="denoiser output, compiled against eager with the same weights, by shape; empty without packages"
    )
    image_psnr_db: float | None = pydantic.Field(description="quantized.png against reference.png; null where they are equal")
    seed: int = pydantic.Field(description="of both images")


class Manifest(pydantic.BaseModel):
    """The content of qcompile.json."""

    model_config = _FROZEN

    manifest_sha256: str = pydantic.Field(
        "0" * 64, pattern=r"^[0-9a-f]{64}$", description="of this file with these 64 digits as zeros"
    )
    format_version: Literal[1] = FORMAT_VERSION
    qcompile: str = pydantic.Field(description="version that wrote it")
    recipe: RecipeRecord
    model: ModelRecord
    environment: Environment
    denoiser: str
    call: dict[str, pydantic.JsonValue]
    shapes: dict[str, ShapeRecord]
    components: dict[str, ComponentRecord]
    changes: tuple[Change, ...]
    calls: dict[str, CallSpec] = pydantic.Field(description="the denoiser's call specs by shape label")
    packages: tuple[Package, ...]
    verification: Verification
    files: dict[str, FileRecord] = pydantic.Field(description="every file but qcompile.json, by path with forward slashes")


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest as the bytes of qcompile.json, its own digest filled in."""
    import hashlib

    blank = manifest.model_copy(update={"manifest_sha256": "0" * 64})
    text = blank.model_dump_json(indent=1).encode() + b"\n"
    return text.replace(_NO_DIGEST, b'"manifest_sha256": "' + hashlib.sha256(text).hexdigest().encode() + b'"', 1)


def digest_holds(content: bytes) -> bool:
    """Whether the bytes of a qcompile.json have the digest they name."""
    import hashlib

    named = _DIGEST.search(content)
    if named is None:
        return False
    blank = content[: named.start()] + _NO_DIGEST + content[named.end() :]
    return hashlib.sha256(blank).hexdigest().encode() == named.group(1)


def schema() -> dict[str, Any]:
    """The JSON schema of manifests, for `serialization/manifest.schema.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema(), "title": "qcompile manifest"}
