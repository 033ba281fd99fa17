"""What there is to show: a verified artifact, and records of the same recipe. All of it is somebody's file."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompile.artifact.manifest import Manifest
from qcompile.artifact.read import Artifact, read_artifact
from qcompile.bench.record import Measured, Ratio, Record
from qcompile.bench.record import read as read_bench
from qcompile.document import parse_document
from qcompile.errors import ArtifactError, ModelError
from qcompile.verify.record import VerificationRecord
from qcompile.verify.record import read as read_verification

_PNG = b"\x89PNG\r\n\x1a\n"
LARGEST_ERROR = 1e100
"""Beyond what is finite in float32, and a chart can be drawn of it."""
LARGEST_BYTES = 10**18
PICTURES = ("reference.png", "quantized.png")


@dataclass(frozen=True)
class Picture:
    """One PNG file of the artifact."""

    content: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Content:
    """What a report is made from."""

    artifact: Artifact
    recipe_text: str
    summary: str
    pictures: tuple[Picture, Picture] | None
    """What the original and the artifact painted; None where they are not images."""
    bench: Record | None
    verification: VerificationRecord | None

    @property
    def manifest(self) -> Manifest:
        """The artifact's manifest."""
        return self.artifact.manifest


def gather(folder: Path, bench: Path | None = None, verification: Path | None = None) -> Content:
    """Read an artifact and the records that belong to it.

    Args:
        folder: the artifact.
        bench: what `qcompile bench --record` wrote.
        verification: what `qcompile verify --record` wrote.

    Raises:
        ArtifactError, RecipeError: the artifact is broken.
        ModelError: a file is no record, or one of another recipe.
    """
    artifact = read_artifact(folder.expanduser())
    text = artifact.recipe_text
    measured = None if bench is None else read_bench(bench)
    verified = None if verification is None else read_verification(verification)
    if bench and measured:
        _check_recipe(bench, measured, artifact, "qcompile bench")
        _check_values(bench, measured)
    if verification and verified:
        _check_recipe(verification, verified, artifact, "qcompile verify")
        _check_errors(verification, verified)
    summary = parse_document(text, f"{artifact.folder}/recipe.yaml").data.get("summary")
    return Content(artifact, text, summary if isinstance(summary, str) else "", _pictures(artifact), measured, verified)


def _check_recipe(path: Path, record: Record | VerificationRecord, artifact: Artifact, command: str) -> None:
    recipe = artifact.manifest.recipe
    if record.recipe_sha256 != recipe.sha256:
        raise ModelError(
            f"{path}: recipe_sha256 is {record.recipe_sha256[:12]}… ({record.recipe} version {record.recipe_version}); "
            f"{artifact.folder} was made by {recipe.name} version {recipe.version}, {recipe.sha256[:12]}…. A record "
            f"of another recipe says nothing about this artifact: make one with `{command} {artifact.folder} --record "
            "FILE`."
        )


def _check_values(path: Path, record: Record) -> None:
    """Refuse what no measurement gives, which a chart would show all the same."""
    found: tuple[tuple[str, tuple[Measured | Ratio, ...]], ...] = (
        ("measured", record.measured),
        ("ratios", record.ratios),
    )
    for name, items in found:
        for index, item in enumerate(items):
            if not (0 <= item.low <= item.value <= item.high <= 1e18 and item.count >= 1):
                raise ModelError(
                    f"{path}: {name}.{index}: low {item.low:g}, value {item.value:g}, high {item.high:g}, count "
                    f"{item.count}; 0 <= low <= value <= high and a count from 1 up are needed. Make the record again "
                    "with `qcompile bench … --record FILE`."
                )


def _check_errors(path: Path, record: VerificationRecord) -> None:
    """Refuse relative errors that are none, and sizes that no layer has."""
    found: dict[str, float | None] = {}
    for index, arm in enumerate(record.arms):
        for name, values in (
            ("quantized_errors", arm.quantized_errors),
            ("compiled_errors", arm.compiled_errors),
            ("step_errors", dict(enumerate(arm.step_errors))),
        ):
            found |= {f"arms.{index}.{name}.{place}": value for place, value in values.items()}
    for place, value in found.items():
        if value is not None and not 0 <= value <= LARGEST_ERROR:
            raise ModelError(
                f"{path}: {place} is {value:g}; relative errors from 0 to {LARGEST_ERROR:g} are needed, or null for "
                "one that is not finite. Make the record again with `qcompile verify … --record FILE`."
            )
    for index, row in enumerate(record.sensitivity.rows if record.sensitivity else ()):
        if abs(row.bytes_saved) > LARGEST_BYTES:
            raise ModelError(
                f"{path}: sensitivity.rows.{index}.bytes_saved is of {len(str(abs(row.bytes_saved)))} digits; at most "
                f"{LARGEST_BYTES:g} are needed. Make the record again with `qcompile verify … --record FILE`."
            )


def _pictures(artifact: Artifact) -> tuple[Picture, Picture] | None:
    if not all(name in artifact.manifest.files for name in PICTURES):
        return None
    first, second = (_picture(artifact.folder / name) for name in PICTURES)
    return first, second


def _picture(path: Path) -> Picture:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError("unreadable", f"{path} can't be read ({error.strerror}). Check its permissions.") from error
    if content[:8] != _PNG or content[12:16] != b"IHDR" or len(content) < 24:
        raise ArtifactError("unreadable", f"{path} is no PNG image. Make the artifact anew with `qcompile apply`.")
    size: tuple[Any, ...] = struct.unpack(">II", content[16:24])
    return Picture(content, *size)
