"""Closing a staged folder: the digest of every file, then the manifest as the last file."""

import hashlib
from pathlib import Path

from qcompile.artifact.manifest import MANIFEST, FileRecord, Manifest, to_bytes


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Digest and size of every file under `folder` but the manifest and hidden files, by path with forward slashes."""
    return {
        path.relative_to(folder).as_posix(): FileRecord(sha256=file_digest(path), bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
    }


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write qcompile.json with the records of all files in `folder`; returns the manifest as written."""
    complete = manifest.model_copy(update={"files": file_records(folder)})
    content = to_bytes(complete)
    (folder / MANIFEST).write_bytes(content)
    return Manifest.model_validate_json(content)


def file_digest(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
