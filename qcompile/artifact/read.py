"""Folder -> verified `Artifact`. Everything is checked before anything is made of a file; nothing is executed."""

import json
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydantic

from qcompile.artifact.classes import MODEL_INDEX, check_classes, check_component
from qcompile.artifact.contents import check_contents
from qcompile.artifact.manifest import (
    DAMAGED,
    FORMAT_VERSION,
    HOSTILE,
    MANIFEST,
    RECIPE,
    FileRecord,
    Manifest,
    digest_holds,
    from_bytes,
)
from qcompile.artifact.write import file_digest
from qcompile.errors import ArtifactError

MAX_MANIFEST_BYTES = 256 << 20
DIGESTS = 8
"""Files whose digests are computed side by side."""
MODEL_CARD = "README.md"
"""Like hidden entries at the top, a hosting service may add it to the folder; nothing opens it."""


@dataclass(frozen=True)
class Artifact:
    """A folder whose every file is what its manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def recipe_text(self) -> str:
        """The recipe that made it, as YAML.

        Raises:
            ArtifactError: it can't be read, or is no text.
        """
        path = self.folder / RECIPE
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError("unreadable", f"{path} can't be read ({error}). {DAMAGED}") from error

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights; their files have headers besides."""
        return sum(record.bytes_after for record in self.manifest.components.values())

    @property
    def original_weight_bytes(self) -> int:
        """Bytes of the weights that it was made from."""
        return sum(record.bytes_before for record in self.manifest.components.values())

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
    return verify(folder, listed(folder, allow_links))


def listed(folder: Path, allow_links: bool = False) -> Manifest:
    """The manifest of a folder in which all files that it lists, and no others, are there and of the right size.

    What is in them is not known yet: nothing may be made of one before `verify` has looked.

    Args:
        folder: the artifact.
        allow_links: as `read_artifact` takes it.

    Raises:
        ArtifactError: as `read_artifact` does.
    """
    with _readable(folder):
        manifest = _read_manifest(folder, allow_links)
        _check_paths(folder, manifest)
        _check_listing(folder, manifest, allow_links)
        _check_sizes(folder, manifest)
    return manifest


def verify(folder: Path, manifest: Manifest) -> Artifact:
    """The artifact in a folder whose files were `listed`, once their digests are those that its manifest says.

    Raises:
        ArtifactError: as `read_artifact` does.
    """
    with _readable(folder):
        _check_digests(folder, manifest)
        check_classes(folder, manifest)
        check_contents(folder, manifest.files)
    return Artifact(folder, manifest)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            "unreadable",
            f"{error.filename or folder} can't be read ({error.strerror}). Check its permissions, or copy it again.",
        ) from error


def _read_manifest(folder: Path, allow_links: bool) -> Manifest:
    if not folder.is_dir():
        raise ArtifactError("no_folder", f"{folder}: there is no such folder. Name one that `qcompile apply` wrote.")
    path = folder / MANIFEST
    if path.is_symlink() and not allow_links:
        raise ArtifactError("link", f"{path} is a link; an artifact holds plain files only. {DAMAGED}")
    if not path.is_file():
        raise ArtifactError(
            "no_manifest", f"{folder} is not an artifact: it has no {MANIFEST}. Name one that `qcompile apply` wrote."
        )
    size = path.stat().st_size
    if size > MAX_MANIFEST_BYTES:
        raise ArtifactError(
            "bad_manifest", f"{path} has {size} bytes; a manifest has at most {MAX_MANIFEST_BYTES}. {DAMAGED}"
        )
    content = path.read_bytes()
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError("bad_manifest", f"{path} is not JSON ({error}). {DAMAGED}") from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if type(version) is not int:
        raise ArtifactError(
            "bad_manifest", f"{path}: format_version: a whole number is needed, not {version!r:.40}. {DAMAGED}"
        )
    if version > FORMAT_VERSION:
        raise ArtifactError(
            "newer_format",
            f"{path}: format version {version}; this qcompile reads up to {FORMAT_VERSION}. Update it.",
        )
    if not digest_holds(content):
        raise ArtifactError(
            "changed_manifest", f"{path} was changed after it was written: its digest differs. {DAMAGED}"
        )
    try:
        return from_bytes(content)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        message = first["msg"].removeprefix("Value error, ")
        raise ArtifactError("bad_manifest", f"{path}: {place}{message}. {DAMAGED}") from error


def _check_paths(folder: Path, manifest: Manifest) -> None:
    """Refuse names that lead out of the folder, before anything is looked for under them."""
    for path in (*manifest.files, *(package.file for package in manifest.packages)):
        # Every part must be a plain name; that leaves out the empty path, "/a", "a//b", "a/", ".", "..", and ".git".
        hidden = path.startswith(".")
        if hidden or any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path or "\0" in path:
            raise ArtifactError(
                "escaping_path",
                f"{folder / MANIFEST} names the file {path!r}; plain names joined by '/' are allowed. {HOSTILE}",
            )
    for name in manifest.components:
        check_component(folder / MANIFEST, name)


def _check_listing(folder: Path, manifest: Manifest, allow_links: bool) -> None:
    found = set()
    for root, folders, files in os.walk(folder, onerror=_raise):
        if Path(root) == folder:
            folders[:] = [name for name in folders if not name.startswith(".")]
            files[:] = [name for name in files if not name.startswith(".")]
        for name in (*folders, *files):
            entry = Path(root, name)
            mode = entry.lstat().st_mode
            if stat.S_ISLNK(mode) and allow_links and entry.exists():
                mode = entry.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ArtifactError(
                    "link",
                    f"{entry} is a link or a special file; an artifact holds plain files and folders only. {DAMAGED}",
                )
        found |= {Path(root, name).relative_to(folder).as_posix() for name in files}
    index = {MODEL_INDEX} if manifest.model.kind == "pipeline" else set()
    needed = {RECIPE, *index, *manifest.files, *(package.file for package in manifest.packages)}
    for path in sorted(needed - found):
        raise ArtifactError("missing_file", f"{folder / path} is missing. {DAMAGED}")
    for path in sorted(found - manifest.files.keys() - {MANIFEST, MODEL_CARD}):
        raise ArtifactError(
            "extra_file", f"{folder / path} is not part of the artifact. Move it elsewhere if it is yours. {DAMAGED}"
        )


def _raise(error: OSError) -> None:
    raise error


def _check_sizes(folder: Path, manifest: Manifest) -> None:
    for path, record in manifest.files.items():
        size = (folder / path).stat().st_size
        if size != record.bytes:
            raise ArtifactError(
                "changed_file", f"{folder / path} has {size} bytes instead of {record.bytes}. {DAMAGED}"
            )


def _check_digests(folder: Path, manifest: Manifest) -> None:
    def check(entry: tuple[str, FileRecord]) -> ArtifactError | None:
        path, record = entry
        if file_digest(folder / path) != record.sha256:
            return ArtifactError(
                "changed_file", f"{folder / path} is not the file that was written: its digest differs. {DAMAGED}"
            )
        return None

    # hashlib lets go of the interpreter lock, so that files are read side by side.
    with ThreadPoolExecutor(DIGESTS) as pool:
        for fault in pool.map(check, manifest.files.items()):
            if fault is not None:
                raise fault
