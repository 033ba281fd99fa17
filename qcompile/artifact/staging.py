"""A folder that appears under its name only when it is complete.

Everything is written to a hidden sibling, which is renamed at the end: an interrupted run leaves nothing that looks
like an artifact. The sibling is locked while its process lives, so that the next run can tell an abandoned one and
remove it.
"""

import ctypes
import errno
import fcntl
import glob
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from qcompile.artifact.manifest import MANIFEST
from qcompile.errors import ArtifactError, MachineError
from qcompile.outside import refuse_inside_artifact

_LOCK = ".lock"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


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
    new_parents = [parent for parent in target.parents if not parent.exists()]
    _remove_abandoned(target.parent, prefix)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder, lock = _make_locked(target.parent, prefix)
    except OSError as error:
        _remove_empty(new_parents)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(_no_space(target)) from error
        raise ArtifactError(
            "unwritable",
            f"--out {target}: nothing can be written to {target.parent} ({error.strerror}). Choose another place.",
        ) from error
    try:
        yield folder
        folder.chmod(0o755)
        _sync(folder)
        _put_in_place(folder, target, overwrite)
        (target / _LOCK).unlink()
    except (OSError, SafetensorError) as error:
        # safetensors has no other way to say it than the text of its error.
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"(os error {errno.ENOSPC})" in str(error):
            raise MachineError(_no_space(target)) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(new_parents)
        os.close(lock)


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a target that may not be written; called early so that no work is lost.

    Raises:
        ArtifactError: it exists and is not to be replaced, is no artifact, or would be part of one.
    """
    refuse_inside_artifact(target, "--out")
    if not os.path.lexists(target):
        return
    if target.is_symlink():
        raise ArtifactError(
            "not_an_artifact", f"--out {target} is a link; it is left alone. Name the folder it leads to."
        )
    if not (target / MANIFEST).is_file():
        raise ArtifactError(
            "not_an_artifact", f"--out {target} exists and is not an artifact; it is left alone. Choose another name."
        )
    if not overwrite:
        raise ArtifactError(
            "exists", f"--out {target} holds an artifact already. Add --overwrite, or choose another name."
        )
    if target.name in ("", ".."):
        # What replaces it is made beside it, under its name; and whoever is in it would be left in a deleted folder.
        whole = target.resolve()
        raise ArtifactError(
            "unwritable",
            f"--out {target}: an artifact can't be replaced from inside of it. Go to {whole.parent}, and name it "
            f"there: --out {shlex.quote(whole.name)} --overwrite.",
        )
    others = _others(target)
    if others:
        raise ArtifactError(
            "not_an_artifact",
            f"--out {target} holds more than the artifact that --overwrite would replace ({', '.join(others[:3])}); it "
            "is left alone. Move these files elsewhere, or choose another name.",
        )


def _others(target: Path) -> list[str]:
    """Files in an artifact's folder that its manifest does not name; all of them where it names none."""
    try:
        named = set(json.loads((target / MANIFEST).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        named = set()
    found = {
        path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    return sorted(found - named - {MANIFEST, _LOCK})


def _make_locked(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)
        except FileNotFoundError:
            continue  # another run took the folder, still without a lock, for an abandoned one
        # Where locks are not supported, no run can take one, and none removes what it can't lock.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _LOCK).exists():
            return folder, lock
        os.close(lock)  # another run held the lock first, and has removed the folder


def _put_in_place(folder: Path, target: Path, overwrite: bool) -> None:
    check_target(target, overwrite)
    if not target.exists():
        folder.rename(target)
    elif not _exchange(folder, target):
        # The old artifact steps aside, and back if the rename fails.
        replaced = Path(tempfile.mkdtemp(prefix=f".{target.name}.replaced-", dir=target.parent)) / target.name
        try:
            target.rename(replaced)
            folder.rename(target)
        except OSError as error:
            _put_back(replaced, target, error)
            raise
        shutil.rmtree(replaced.parent, ignore_errors=True)
    _sync_folder(target.parent)


def _put_back(replaced: Path, target: Path, why: OSError) -> None:
    try:
        if replaced.exists():
            replaced.rename(target)
    except OSError as error:
        raise ArtifactError(
            "unwritable",
            f"--out {target}: the new artifact could not be put there ({why.strerror}), nor the old one be put back "
            f"({error.strerror}). The old one is whole, at {replaced}: move it to its place.",
        ) from error
    replaced.parent.rmdir()


def _exchange(folder: Path, target: Path) -> bool:
    """Swap two folders, so that at no moment `target` is missing; False where the file system can't."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(folder), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(target))


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{glob.escape(prefix)}*") if parent.is_dir() else ():
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except FileNotFoundError:
            # Its run was killed before it made the lock, or after this old artifact had been replaced.
            with suppress(OSError):
                folder.rmdir()
            if not (folder / _LOCK).exists():
                shutil.rmtree(folder, ignore_errors=True)
            continue
        except OSError:
            continue  # not ours
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # another process is writing it now
        finally:
            os.close(lock)


def _remove_empty(parents: list[Path]) -> None:
    """Take away the folders that were made for a target that never came."""
    for parent in parents:
        with suppress(OSError):
            parent.rmdir()


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


def _no_space(target: Path) -> str:
    return (
        f"--out {target}: no space is left on that disk; what was written has been removed. Free space, or choose "
        "another place."
    )
