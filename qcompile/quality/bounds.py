"""Figures against the bounds of a recipe's `verify`."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from qcompile.errors import PlanError, VerifyError
from qcompile.header import Bounds

OF_IMAGES = ("min_psnr_db", "min_ssim")
"""Bounds that `apply` checks on one image, that of the recipe's own prompt."""


@dataclass
class Measured:
    """How far a pipeline is from its original. Relative errors are ‖a − b‖ / ‖b‖."""

    quantized_errors: dict[str, float] = field(default_factory=dict)
    """Of the denoiser's first call against the original's, by shape label."""
    compiled_errors: dict[str, float] = field(default_factory=dict)
    """Of the denoiser's first call against the same weights run eagerly, by shape label; empty where nothing is
    compiled."""
    step_errors: tuple[float, ...] = ()
    """Of the denoiser at every call along the original's trajectory, for the first shape."""
    psnr_db: tuple[float | None, ...] = ()
    """Of the images, one a task; None where an image equals the original's."""
    ssim: tuple[float, ...] = ()
    """Of the images, one a task; empty where they are smaller than the window of SSIM."""
    score_percent: float | None = None
    """Images that show what their caption says; None where the model has no task score."""
    score_loss_points: float | None = None
    """The original's score less this one, in points of percent."""

    @property
    def median_psnr_db(self) -> float | None:
        """The median over the tasks, None (infinite) where that image equals the original's."""
        found = statistics.median_low([math.inf if value is None else value for value in self.psnr_db])
        return None if math.isinf(found) else found


@dataclass(frozen=True)
class Check:
    """One bound and the figure that it is about."""

    bound: str
    """Its key under `verify`."""
    value: float
    limit: float | None
    """None where only finite values are asked for."""
    where: str
    """What was measured, and where the worst value is."""

    @property
    def holds(self) -> bool:
        """Whether it does; a value that is not a number never does."""
        if self.limit is None:
            return not math.isnan(self.value)
        return self.value >= self.limit if self.bound.startswith("min_") else self.value <= self.limit

    @property
    def allowed(self) -> str:
        """The bound in words."""
        if self.limit is None:
            return "finite values"
        return f"{'at least' if self.bound.startswith('min_') else 'at most'} {self.limit:g}"


def checks(bounds: Bounds, measured: Measured, denoiser: str) -> tuple[Check, ...]:
    """Every bound that is set, with the figure measured for it."""
    found = []
    for key, errors, limit in (
        ("max_relative_error", measured.quantized_errors, bounds.max_relative_error),
        ("max_compiled_error", measured.compiled_errors, bounds.max_compiled_error),
    ):
        for label, error in errors.items():
            found.append(Check(key, error, limit, f"the relative error of {denoiser} for {label}"))
    if measured.step_errors:
        index = worst(measured.step_errors)
        step = f"call {index + 1} of {len(measured.step_errors)} along the original's trajectory"
        where = f"the relative error of {denoiser} at {step}"
        found.append(Check("max_step_error", measured.step_errors[index], bounds.max_step_error, where))
    if measured.psnr_db and bounds.min_psnr_db is not None:
        value = measured.median_psnr_db
        found.append(
            Check(
                "min_psnr_db",
                math.inf if value is None else value,
                bounds.min_psnr_db,
                _of_images(measured, "PSNR in dB"),
            )
        )
    if measured.psnr_db and bounds.min_ssim is not None:
        # Images under the window's size have no SSIM; a bound on it must not hold without a word.
        similarity = statistics.median_low(measured.ssim) if measured.ssim else math.nan
        found.append(Check("min_ssim", similarity, bounds.min_ssim, _of_images(measured, "SSIM")))
    if measured.score_loss_points is not None and bounds.max_score_loss_points is not None:
        where = f"the task score lost over {len(measured.psnr_db)} images, in points"
        found.append(Check("max_score_loss_points", measured.score_loss_points, bounds.max_score_loss_points, where))
    return tuple(found)


def worst(errors: Sequence[float]) -> int:
    """Index of the largest error; the first that is not a number comes before all others."""
    return max(range(len(errors)), key=lambda index: math.inf if math.isnan(errors[index]) else errors[index])


def refuse(found: Sequence[Check]) -> None:
    """Raise for the first check that does not hold.

    Raises:
        VerifyError: naming bound, value and where, and what to do.
    """
    for check in found:
        if not check.holds:
            raise VerifyError(
                f"verify.{check.bound}: {check.where} is {check.value:.4g}; the recipe allows {check.allowed}. Nothing "
                f"was put in place. {_advice(check)}"
            )


def _advice(check: Check) -> str:
    if check.bound == "max_compiled_error":
        return "Take out compiler options that the recipe sets, or widen the bound."
    if check.limit is None:
        return "Exclude sensitive layers, or choose a finer scheme."
    return (
        "Exclude sensitive layers, choose a finer scheme, or widen the bound. To learn which layers to exclude, apply "
        f"with --set verify.{check.bound}=null, then run `qcompile verify ARTIFACT --suggest --bound "
        f"{check.bound}={check.limit:g}{' --prompts 1' if check.bound in OF_IMAGES else ''}`."
    )


def refuse_unmeasurable(bounds: Bounds, is_pipeline: bool, paints_images: bool, has_score: bool) -> None:
    """Refuse bounds on figures that can't be had, which would otherwise hold without a word.

    Raises:
        PlanError: naming the bound, and why there is no figure for it.
    """
    for key, there, why in (
        ("max_step_error", is_pipeline, "a bare model has no pipeline, so there is no trajectory"),
        ("min_psnr_db", paints_images, "nothing here paints images"),
        ("min_ssim", paints_images, "nothing here paints images"),
        (
            "max_score_loss_points",
            has_score,
            "only images of builtin:flux-mini are scored, and only those whose prompt is a caption",
        ),
    ):
        if getattr(bounds, key) is not None and not there:
            raise PlanError(f"verify.{key}: {why}. Take this bound out.")


def _of_images(measured: Measured, name: str) -> str:
    count = len(measured.psnr_db)
    return f"the {name} of the image" if count == 1 else f"the median {name} of {count} images"
