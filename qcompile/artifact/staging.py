"""A folder that appears under its name only when it is complete.

Everything is written to a hidden sibling, which is renamed at the end: an interrupted run leaves nothing that looks like an
artifact. The sibling is locked while its process lives, so that the next run can tell an abandoned one and remove it.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcompile.artifact.manifest import MANIFEST
from qcompile.errors import ArtifactError, MachineError

_LOCK = ".lock"


@contextmanager
def staged(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to write to; it takes the place of `target` when the body ends without an error.

    Args:
        target: where the artifact goes.
        overwrite: replace an artifact that is there; anything else than an artifact is never replaced.

    Raises:
        ArtifactError: `target` exists, or its parent can't be written.
        MachineError: no space is left.
    """
    check_target(target, overwrite)
    prefix = f".{target.name}.partial-"
    _remove_abandoned(target.parent, prefix)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    except OSError as error:
        raise ArtifactError(
            "unwritable", f"--out {target}: its parent folder can't be written ({error.strerror}). Choose another place."
        ) from error
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield folder
        (folder / _LOCK).unlink()
        folder.chmod(0o755)
        _sync(folder)
        _put_in_place(folder, target, overwrite)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"--out {target}: no space is left on that disk; what was written has been removed. Free space, or choose "
                "another place."
            ) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a target that may not be written; called early so that no work is lost.

    Raises:
        ArtifactError: it exists and is not to be replaced, or is no artifact.
    """
    if not os.path.lexists(target):
        return
    if not (target / MANIFEST).is_file():
        raise ArtifactError(
            "not_an_artifact", f"--out {target} exists and is not an artifact; it is left alone. Choose another name."
        )
    if not overwrite:
        raise ArtifactError("exists", f"--out {target} holds an artifact already. Add --overwrite, or choose another name.")


def _put_in_place(folder: Path, target: Path, overwrite: bool) -> None:
    check_target(target, overwrite)
    replaced = None
    if target.exists():
        # A folder that is not empty can't be renamed over: the old artifact steps aside, and back if the rename fails.
        replaced = Path(tempfile.mkdtemp(prefix=f".{target.name}.replaced-", dir=target.parent)) / target.name
        target.rename(replaced)
    try:
        folder.rename(target)
    except OSError:
        if replaced is not None:
            replaced.rename(target)
        raise
    finally:
        if replaced is not None:
            shutil.rmtree(replaced.parent, ignore_errors=True)
    _sync_folder(target.parent)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*") if parent.is_dir() else ():
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except FileNotFoundError:
            # Killed between making the folder and its lock, or after taking the lock away; nothing in it is of use.
            shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # another process is writing it now
        finally:
            os.close(lock)


def _sync(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            # safetensors writes files for the owner alone; an artifact is there to be served.
            path.chmod(0o644)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
