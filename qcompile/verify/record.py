"""What `qcompile verify` found, as one JSON document: what `--json` prints and `--record` writes."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from qcompile.record_file import RecipeRun, Text, check_record_file, read_record_file, write_record_file

if TYPE_CHECKING:
    from qcompile.quality.bounds import Check
    from qcompile.verify.report import Arm, Report, SensitivityTable, Suggestion

COMMAND = "qcompile verify"
_RECORD = pydantic.ConfigDict(extra="forbid", frozen=True)


class ImageRecord(pydantic.BaseModel):
    """One image that every arm painted."""

    model_config = _RECORD

    prompt: pydantic.JsonValue
    """As the pipeline's call takes it; null for the recipe's own."""
    seed: int
    """Of the noise."""


class OriginalRecord(pydantic.BaseModel):
    """The model that all arms are held against."""

    model_config = _RECORD

    score_percent: pydantic.FiniteFloat | None
    """Images that show what their caption says; null where the model has no task score."""


class ArmRecord(pydantic.BaseModel):
    """One pipeline that was held against the original; relative errors are ‖a − b‖ / ‖b‖."""

    model_config = _RECORD

    name: str
    """`control` or `artifact`."""
    label: Text
    """What it is, for people."""
    quantized_errors: dict[str, pydantic.FiniteFloat | None]
    """Of the denoiser's first call against the original's, by shape label; null where it is not finite."""
    compiled_errors: dict[str, pydantic.FiniteFloat | None]
    """Of the denoiser's first call against the same weights run eagerly, by shape label."""
    step_errors: tuple[pydantic.FiniteFloat | None, ...]
    """Of the denoiser at every call along the original's trajectory, for the first shape."""
    psnr_db: tuple[pydantic.FiniteFloat | None, ...]
    """Of the images; null where an image equals the original's."""
    ssim: tuple[pydantic.FiniteFloat, ...]
    """Of the images; empty where they are smaller than the window of SSIM."""
    score_percent: pydantic.FiniteFloat | None
    """Images that show what their caption says."""
    score_loss_points: pydantic.FiniteFloat | None
    """The original's score less this one."""
    perceptual: dict[str, pydantic.FiniteFloat] = {}
    """Medians of the metrics asked for besides: `lpips`, `clip_score`."""


class CheckRecord(pydantic.BaseModel):
    """One bound and the figure that it is about."""

    model_config = _RECORD

    bound: str
    """Its key under `verify`."""
    limit: pydantic.FiniteFloat | None
    """Null where only finite values are asked for."""
    value: pydantic.FiniteFloat | None
    """Null where it is infinite: images that are the same."""
    holds: bool
    """Whether it does."""
    where: Text
    """What was measured, and where the worst value is."""


class SensitivityRow(pydantic.BaseModel):
    """What the layers of one role add to the error of the denoiser's output."""

    model_config = _RECORD

    name: str
    """Dotted name; for a role with `*` in place of the block's index."""
    layers: tuple[str, ...]
    """The layers it stands for."""
    scheme: str
    """How they are quantized."""
    error_without: pydantic.FiniteFloat | None
    """Mean relative error with these layers' original weights back in place; null where it is not finite."""
    adds: pydantic.FiniteFloat | None
    """Mean relative error of the whole less `error_without`; null where one of the two is not finite."""
    bytes_saved: int
    """By quantizing them."""


class SensitivityRecord(pydantic.BaseModel):
    """Sensitivities, the worst first."""

    model_config = _RECORD

    error: pydantic.FiniteFloat | None
    """Mean relative error of the quantized denoiser, run eagerly; null where it is not finite."""
    calls: tuple[int, ...]
    """Calls of the trajectory that were looked at, by index from 0."""
    rows: tuple[SensitivityRow, ...]
    """One a role or layer."""


class SuggestionRecord(pydantic.BaseModel):
    """Layers to exclude so that every bound is met."""

    model_config = _RECORD

    excluded: tuple[str, ...]
    """Globs; empty where the bounds are met already."""
    layers: tuple[str, ...]
    """The layers they stand for."""
    bytes_lost: int
    """By which the weights grow."""
    fragments: dict[str, str]
    """`steps.INDEX` to the YAML that takes the place of that step's `layers`."""
    bounds: tuple[CheckRecord, ...]
    """The bounds with the layers excluded."""
    emptied: tuple[str, ...] = ()
    """`steps.INDEX` of steps that would have no layer left, and so no fragment."""


class VerificationRecord(RecipeRun):
    """One run of `qcompile verify`."""

    model: Text
    """What the artifact was held against."""
    shape: str
    """Label of the shape whose trajectory and images these are."""
    holds: bool
    """Whether every bound does."""
    images: tuple[ImageRecord, ...]
    """What was painted."""
    original: OriginalRecord
    """The original's own figures."""
    arms: tuple[ArmRecord, ...] = pydantic.Field(min_length=1)
    """The control, where there is one, and the artifact."""
    no_control: Text | None
    """Why there is no control; null where there is."""
    bounds: tuple[CheckRecord, ...]
    """Every bound with the figure measured for it."""
    sensitivity: SensitivityRecord | None
    """Null where it was not asked for."""
    suggestion: SuggestionRecord | None
    """Null where it was not asked for, or where there is none."""
    no_suggestion: Text | None = None
    """Why no choice of layers meets the bounds, where one was asked for."""

    def arm(self, name: str) -> ArmRecord | None:
        """The arm of that name."""
        return next((arm for arm in self.arms if arm.name == name), None)


def record_of(found: "Report", command: str, date: str) -> VerificationRecord:
    """A verification as plain data.

    Args:
        found: the verification.
        command: what the user typed.
        date: day, as YYYY-MM-DD.
    """
    return VerificationRecord(
        command=command,
        date=date,
        recipe=found.recipe,
        recipe_version=found.recipe_version,
        recipe_sha256=found.recipe_sha256,
        environment=found.environment,
        model=found.model,
        shape=found.shape,
        holds=found.holds,
        images=tuple(ImageRecord(prompt=task.prompt, seed=task.seed) for task in found.tasks),
        original=OriginalRecord(score_percent=found.original_score_percent),
        arms=tuple(map(_arm, found.arms)),
        no_control=found.no_control,
        bounds=_checks(found.checks),
        sensitivity=found.sensitivity and _sensitivity(found.sensitivity),
        suggestion=found.suggestion and _suggestion(found.suggestion),
        no_suggestion=found.no_suggestion,
    )


def read(path: Path) -> VerificationRecord:
    """Read what `qcompile verify --record` wrote.

    Raises:
        ModelError: the file is missing or no record.
    """
    return read_record_file(VerificationRecord, path, COMMAND)


def check_target(path: Path) -> None:
    """Refuse a file that no record can be written to; see `check_record_file`."""
    check_record_file(VerificationRecord, path, COMMAND)


def write(record: VerificationRecord, path: Path) -> None:
    """Write a record to a file; see `write_record_file`."""
    write_record_file(record, path, COMMAND)


def _arm(arm: "Arm") -> ArmRecord:
    measured = arm.measured
    return ArmRecord(
        name=arm.name,
        label=arm.label,
        quantized_errors={label: _finite(error) for label, error in measured.quantized_errors.items()},
        compiled_errors={label: _finite(error) for label, error in measured.compiled_errors.items()},
        step_errors=tuple(map(_finite, measured.step_errors)),
        psnr_db=measured.psnr_db,
        ssim=measured.ssim,
        score_percent=measured.score_percent,
        score_loss_points=measured.score_loss_points,
        perceptual=arm.perceptual,
    )


def _checks(found: Iterable["Check"]) -> tuple[CheckRecord, ...]:
    return tuple(
        CheckRecord(
            bound=check.bound, limit=check.limit, value=_finite(check.value), holds=check.holds, where=check.where
        )
        for check in found
    )


def _sensitivity(found: "SensitivityTable") -> SensitivityRecord:
    rows = tuple(
        SensitivityRow(
            name=row.name,
            layers=row.layers,
            scheme=row.scheme,
            error_without=_finite(row.error_without),
            adds=_finite(row.adds),
            bytes_saved=row.bytes_saved,
        )
        for row in found.rows
    )
    return SensitivityRecord(error=_finite(found.error), calls=found.calls, rows=rows)


def _suggestion(found: "Suggestion") -> SuggestionRecord:
    return SuggestionRecord(
        excluded=found.excluded,
        layers=found.layers,
        bytes_lost=found.bytes_lost,
        fragments={f"steps.{index}": fragment for index, fragment in found.fragments.items()},
        bounds=_checks(found.checks),
        emptied=tuple(f"steps.{index}" for index in found.emptied),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
