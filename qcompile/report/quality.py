"""Tables of quality: what `apply` measured, and what `qcompile verify` did, artifact beside control."""

import math
import statistics

from qcompile.report.content import Content
from qcompile.report.facts import NONE
from qcompile.report.quantities import number, or_infinity, quantity
from qcompile.report.table import Column, Table, table
from qcompile.verify.record import ArmRecord, VerificationRecord


def applied(content: Content, quantized: bool) -> Table:
    """What `apply` measured before it put the artifact in place; `quantized` says whether weights were."""
    found = content.manifest.verification
    what = "quantized" if quantized else "artifact"
    rows = [
        (f"denoiser's first call, {what} against original, {label}", number(value))
        for label, value in found.quantized_relative_error.items()
    ]
    rows += [
        (f"denoiser's first call, compiled against eager of the same weights, {label}", number(value))
        for label, value in found.compiled_relative_error.items()
    ]
    if found.step_relative_error:
        rows.append(("worst call along the original's trajectory", number(max(found.step_relative_error))))
    if found.image_psnr_db is not None:
        rows.append(("PSNR of the picture", f"{found.image_psnr_db:.1f} dB"))
    if found.image_ssim is not None:
        rows.append(("SSIM of the picture", f"{found.image_ssim:.4f}"))
    if found.score_loss_points is not None:
        rows.append(("task score lost", f"{number(found.score_loss_points)} points"))
    return table(["what", Column("value", "number")], rows)


def figures(record: VerificationRecord) -> Table:
    """Artifact beside control, one row a figure."""
    arms = list(record.arms)
    shown = [_figures(arm) for arm in arms]
    names = list(dict.fromkeys(name for column in shown for name in column))
    rows = [(name, *(column.get(name, NONE) for column in shown)) for name in names]
    if record.original.score_percent is not None:
        words = f"images that show what their caption says (original: {number(record.original.score_percent)} %)"
        rows.append((words, *(_or_none(arm.score_percent, " %") for arm in arms)))
    return table(["", *(Column(f"{arm.name}: {arm.label}", "number") for arm in arms)], rows)


def _figures(arm: ArmRecord) -> dict[str, str]:
    found = {
        f"relative error, first call, {label}": number(or_infinity(value))
        for label, value in arm.quantized_errors.items()
    }
    steps = [*map(or_infinity, arm.step_errors)]
    if steps:
        found["relative error along the trajectory, median"] = number(statistics.median(steps))
        found["relative error along the trajectory, worst"] = number(max(steps))
    psnr = [*map(or_infinity, arm.psnr_db)]
    if psnr:
        found[f"PSNR of {len(psnr)} images, median"] = _decibels(statistics.median_low(psnr))
        found[f"PSNR of {len(psnr)} images, least"] = _decibels(min(psnr))
    if arm.ssim:
        found[f"SSIM of {len(arm.ssim)} images, median"] = f"{statistics.median_low(arm.ssim):.4f}"
        found[f"SSIM of {len(arm.ssim)} images, least"] = f"{min(arm.ssim):.4f}"
    return found | {name.replace("_", " "): number(value) for name, value in arm.perceptual.items()}


def _decibels(value: float) -> str:
    return "the same image" if math.isinf(value) else f"{value:.1f} dB"


def _or_none(value: float | None, unit: str = "") -> str:
    return NONE if value is None else f"{number(value)}{unit}"


def bounds(record: VerificationRecord) -> Table:
    """The recipe's bounds with what was measured."""
    rows = []
    for check in record.bounds:
        side = "at least" if check.bound.startswith("min_") else "at most"
        allowed = "finite values" if check.limit is None else f"{side} {number(check.limit)}"
        verdict = "no bound" if check.limit is None and check.holds else "holds" if check.holds else "missed"
        # Null stands for infinity, the PSNR of equal images, or for an error that is not finite.
        infinite = "infinite" if check.bound.startswith("min_") and check.holds else "not finite"
        rows.append(
            (
                f"verify.{check.bound}",
                check.where,
                allowed,
                infinite if check.value is None else number(check.value),
                verdict,
            )
        )
    return table(
        [Column("bound", "code"), "what", "allowed", Column("measured", "number"), Column("verdict", "mark")], rows
    )


def sensitivity(record: VerificationRecord) -> Table:
    """What each role of layers adds to the error, the worst first."""
    found = record.sensitivity.rows if record.sensitivity else ()
    rows = [
        (row.name, str(len(row.layers)), row.scheme, number(or_infinity(row.adds)), quantity(row.bytes_saved, "bytes"))
        for row in found
    ]
    return table(
        [
            Column("layer", "code"),
            Column("layers", "number"),
            Column("scheme", "mark"),
            Column("adds to the error", "number"),
            Column("saves", "number"),
        ],
        rows,
    )
