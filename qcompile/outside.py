"""Files that commands write besides artifacts stay outside of them: one file more, and an artifact is refused."""

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
