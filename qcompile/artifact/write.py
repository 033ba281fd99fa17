"""Closing a staged folder: the digest of every file, then the manifest as the last file."""

import hashlib
import json
import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qcompile.artifact.contents import CONFIGURATION, check_contents, without_leads
from qcompile.artifact.manifest import MANIFEST, FileRecord, Manifest, from_bytes, to_bytes

READ_BYTES = 64 << 20
"""Read at once for a digest. After every piece a thread asks for the interpreter lock, which imports hold for long."""
_UNWRITABLE = "Load the component without that, and apply the recipe again."
"""How messages end about what a component's own class wrote."""


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Digest and size of every file under `folder`, by path with forward slashes.

    The manifest and hidden files at the top (the lock of a staged folder) are left out.
    """
    paths = {
        name: path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (name := path.relative_to(folder).as_posix()) != MANIFEST and not name.startswith(".")
    }
    with ThreadPoolExecutor() as pool:
        digests = pool.map(file_digest, paths.values())
        return {
            name: FileRecord(sha256=digest, bytes=path.stat().st_size)
            for (name, path), digest in zip(paths.items(), digests, strict=True)
        }


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write qcompile.json with the records of all files in `folder`; returns the manifest as written.

    Raises:
        ArtifactError: a component's own files lead to code or weights elsewhere, so that no reader would load them.
    """
    _forget_origin(folder)
    complete = manifest.model_copy(update={"files": file_records(folder)})
    check_contents(folder, complete.files, _UNWRITABLE)
    content = to_bytes(complete)
    (folder / MANIFEST).write_bytes(content)
    return from_bytes(content)


def _forget_origin(folder: Path) -> None:
    """Take out of configurations the folder that the model came from, and what leads to code or other files.

    That folder is a path of this machine. An `auto_map`, which transformers keeps, names files that it does not save.
    """
    for path in (*folder.glob("*.json"), *folder.glob("*/*.json")):
        data = json.loads(path.read_bytes())
        kept = without_leads(data) if path.name.endswith(CONFIGURATION) else data
        leads = kept != data
        if isinstance(kept, dict) and (kept.pop("_name_or_path", None) is not None or leads):
            path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _memory(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def file_digest(path: Path) -> str:
    """sha256 of a file's content."""
    digest = hashlib.sha256()
    # Memory from the system rather than a bytearray, which is filled with zeros while the interpreter lock is held.
    with path.open("rb", buffering=0) as file, _memory(READ_BYTES) as buffer:
        while count := file.readinto(buffer):
            with memoryview(buffer) as whole, whole[:count] as piece:
                digest.update(piece)
    return digest.hexdigest()
