"""Files that commands write besides artifacts stay outside of them: one file more, and an artifact is refused."""

import os
from pathlib import Path

from qcompile.errors import ArtifactError


def refuse_inside_artifact(path: Path, option: str) -> None:
    """Refuse a file or folder inside of an artifact.

    Args:
        path: what is to be written; it need not be there.
        option: what the user typed before it, for the message: `--out`.

    Raises:
        ArtifactError: a folder above is an artifact.
    """
    # Resolved: ../NAME, typed in an artifact, is outside of it; and a link may lead into one.
    for folder in path.resolve().parents:
        if (folder / "qcompile.json").exists():
            raise ArtifactError(
                "unwritable",
                f"{option} {path}: {folder} is an artifact, which takes no other files. Choose a place outside it.",
            )


def refuse_unwritable(path: Path, option: str) -> None:
    """Refuse a file that can't be written for want of a folder, before the work that it is to hold. Nothing is made.

    Args:
        path: the file; it and the folders above need not be there.
        option: what the user typed before it, for the message: `--out`.

    Raises:
        ArtifactError: the nearest folder that is there is a file, or can't be written.
    """
    there = next(found for found in path.absolute().parents if found.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ArtifactError(
            "unwritable", f"{option} {path}: nothing can be written under {there}. Choose another place."
        )
