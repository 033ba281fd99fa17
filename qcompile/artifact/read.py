"""Folder -> verified `Artifact`. Everything is checked against the manifest before anything is opened; nothing is executed."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pydantic

from qcompile.artifact.manifest import FORMAT_VERSION, MANIFEST, FileRecord, Manifest, digest_holds
from qcompile.artifact.write import file_digest
from qcompile.errors import ArtifactError

MAX_MANIFEST_BYTES = 256 << 20
_PIPELINE_LIBRARIES = ("diffusers", "transformers")


@dataclass(frozen=True)
class Artifact:
    """A folder whose every file is what its manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def recipe_text(self) -> str:
        """The recipe that made it, as YAML."""
        return (self.folder / "recipe.yaml").read_text(encoding="utf-8")

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights on disk."""
        return sum(record.bytes for path, record in self.manifest.files.items() if path.endswith(".safetensors"))

    @property
    def package_bytes(self) -> int:
        """Bytes of all compiled code on disk."""
        return sum(record.bytes for path, record in self.manifest.files.items() if path.endswith(".pt2"))


def read_artifact(folder: str | Path, allow_links: bool = False) -> Artifact:
    """Read and verify an artifact folder.

    Args:
        folder: the artifact.
        allow_links: follow symbolic links, as a Hub cache makes its snapshots of them.

    Raises:
        ArtifactError: with `fault` one of `qcompile.artifact.manifest.FAULTS`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError("no_folder", f"{folder}: there is no such folder. Name one that `qcompile apply` wrote.")
    manifest = _read_manifest(folder)
    for path in (*manifest.files, *(package.file for package in manifest.packages)):
        _check_path(folder, path)
    _check_listing(folder, manifest, allow_links)
    _check_digests(folder, manifest)
    _check_classes(folder, manifest)
    return Artifact(folder, manifest)


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError("no_manifest", f"{folder} is not an artifact: it has no {MANIFEST}. Name one that `qcompile apply` wrote.")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ArtifactError("bad_manifest", f"{path} has {path.stat().st_size} bytes; no manifest is that large.")
    content = path.read_bytes()
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError("bad_manifest", f"{path} is not JSON ({error}). {_DAMAGED}") from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ArtifactError(
            "newer_format",
            f"{path}: format version {version}; this qcompile reads up to {FORMAT_VERSION}. Update qcompile to load it.",
        )
    if not digest_holds(content):
        raise ArtifactError("changed_manifest", f"{path} was changed after it was written. {_DAMAGED}")
    try:
        return Manifest.model_validate_json(content)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ArtifactError("bad_manifest", f"{path}: {place}: {first['msg']}. {_DAMAGED}") from error


_DAMAGED = "Copy the artifact again, or make it anew with `qcompile apply`."


def _check_path(folder: Path, path: str) -> None:
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and parts and not path.startswith("/") and "\\" not in path and "\0" not in path
    if not plain or ".." in parts or "." in parts:
        raise ArtifactError(
            "escaping_path", f"{folder / MANIFEST} names {path!r}, which is no plain path inside the folder. Do not use this artifact."
        )


def _check_listing(folder: Path, manifest: Manifest, allow_links: bool) -> None:
    found = set()
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            mode = os.stat(path).st_mode if allow_links else os.lstat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ArtifactError("link", f"{path} is a link or a special file; an artifact holds plain files only. {_DAMAGED}")
        found |= {Path(root, name).relative_to(folder).as_posix() for name in files}
    found.discard(MANIFEST)
    needed = {*manifest.files, *(package.file for package in manifest.packages)}
    for path in sorted(needed - found):
        raise ArtifactError("missing_file", f"{folder / path} is missing. {_DAMAGED}")
    for path in sorted(found - manifest.files.keys()):
        raise ArtifactError("extra_file", f"{folder / path} is not part of the artifact. Remove it, if it is yours.")


def _check_digests(folder: Path, manifest: Manifest) -> None:
    def check(entry: tuple[str, FileRecord]) -> ArtifactError | None:
        path, record = entry
        size = (folder / path).stat().st_size
        if size != record.bytes:
            return ArtifactError("changed_file", f"{folder / path} has {size} bytes instead of {record.bytes}. {_DAMAGED}")
        if file_digest(folder / path) != record.sha256:
            return ArtifactError("changed_file", f"{folder / path} is not the file that was written: its digest differs. {_DAMAGED}")
        return None

    # hashlib lets go of the interpreter lock, so that files are read side by side.
    with ThreadPoolExecutor() as pool:
        for fault in pool.map(check, manifest.files.items()):
            if fault is not None:
                raise fault


def _check_classes(folder: Path, manifest: Manifest) -> None:
    """diffusers imports whatever library model_index.json names, so it may name none but these."""
    if manifest.model.kind != "pipeline":
        return
    path = folder / "model_index.json"
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        entries = [value for key, value in index.items() if not key.startswith("_") and isinstance(value, list)]
        libraries = {str(value[0]) for value in entries if value and value[0] is not None}
        class_name = index["_class_name"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ArtifactError("bad_manifest", f"{path} is not a diffusers pipeline index ({error}). {_DAMAGED}") from error
    foreign = sorted(name for name in libraries - set(_PIPELINE_LIBRARIES) if not _is_pipeline_module(name))
    if foreign or class_name != manifest.model.class_name:
        named = foreign[0] if foreign else class_name
        raise ArtifactError("foreign_class", f"{path} names {named!r}, which is not part of this pipeline. Do not use this artifact.")


def _is_pipeline_module(name: str) -> bool:
    import importlib.util

    spec = importlib.util.find_spec("diffusers")
    if spec is None or spec.origin is None or not name.isidentifier():
        return False
    return (Path(spec.origin).parent / "pipelines" / name).is_dir()
