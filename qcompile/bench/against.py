"""Other artifacts that one is held against: their names as arms, and whether they can be compared with it."""

from collections.abc import Sequence
from pathlib import Path

from qcompile.artifact.read import Artifact
from qcompile.bench.arms import ARMS, COLD_ONLY
from qcompile.errors import PlanError

TAKEN = (*ARMS, *COLD_ONLY, "machine", "build", "artifact", "original", "limit", "weights")
"""What records call something else."""


def name_against(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by the name of their arm: as much of the end of each path as tells them apart from arms and each other.

    A folder that is named twice is taken once.
    """
    whole = list(dict.fromkeys(Path(folder).expanduser().resolve() for folder in folders))
    named: dict[str, Path] = {}
    for folder in whole:
        parts = [part for part in folder.parts if part != folder.anchor]
        for length in range(1, len(parts) + 1):
            name = "/".join(parts[-length:])
            rivals = [other for other in whole if other != folder and other.parts[-length:] == folder.parts[-length:]]
            if name not in TAKEN and not rivals:
                break
        else:
            name = str(folder)  # /aot, as containers mount folders: no arm's name begins so
        named[name] = folder
    return named


def check_comparable(name: str, other: Artifact, artifact: Artifact) -> list[str]:
    """Refuse an artifact whose denoiser can't be called as this one's.

    Returns:
        What a reader of the figures must know.

    Raises:
        PlanError: it is of another pipeline class, or a bare model.
    """
    mine, theirs = artifact.manifest, other.manifest
    if theirs.model.kind != "pipeline":
        raise PlanError(f"--against {other.folder} is a bare {theirs.model.class_name}, which has no pipeline to run.")
    if (theirs.model.class_name, theirs.denoiser) != (mine.model.class_name, mine.denoiser):
        raise PlanError(
            f"--against {other.folder} is a {theirs.model.class_name} with its {theirs.denoiser}, and "
            f"{artifact.folder} a {mine.model.class_name} with its {mine.denoiser}: one can't be called as the other. "
            "Name artifacts of the same kind of model."
        )
    if theirs.model.id != mine.model.id:
        return [f"{name} was made from another model: {theirs.model.id}, not {mine.model.id}"]
    return []
