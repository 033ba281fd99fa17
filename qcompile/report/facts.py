"""Tables: environment, sizes, layers, quality, every measurement."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict

from qcompile.bench.record import Measured, Record
from qcompile.environment import Environment
from qcompile.report.arms import label_of
from qcompile.report.content import Content
from qcompile.report.layers import Action, Group, bytes_by_scheme
from qcompile.report.quantities import number, quantity
from qcompile.report.table import Column, Table, table
from qcompile.verify.record import ArmRecord, VerificationRecord

NONE = "–"
_FIELDS = {
    "gpu": "GPU",
    "capability": "compute capability",
    "device": "device",
    "machine": "processor",
    "system": "system",
    "python": "Python",
    "torch": "torch",
    "torchao": "torchao",
    "diffusers": "diffusers",
    "triton": "triton",
    "cuda": "CUDA",
}


def environments(content: Content) -> Table:
    """Where the artifact was made, and where it was measured."""
    found: list[tuple[str, Environment]] = [("made on", content.manifest.environment)]
    if content.bench:
        found.append(("measured on", content.bench.environment))
    if content.verification:
        found.append(("verified on", content.verification.environment))
    rows = []
    for field, words in _FIELDS.items():
        values = [_shown(asdict(environment)[field]) for _, environment in found]
        if set(values) != {NONE}:
            rows.append((words, *values))
    if content.bench:
        cores = [str(content.bench.cpus) if name == "measured on" else NONE for name, _ in found]
        rows.append(("processor cores", *cores))
    return table(["", *(Column(name) for name, _ in found)], rows)


def instruction_sets(content: Content) -> str:
    """Those of the processor that the artifact was made on; packages for a CPU need them."""
    return " ".join(content.manifest.environment.cpu_isa)


def _shown(value: object) -> str:
    return NONE if value is None else str(value)


def components(content: Content) -> Table:
    """Weights of each component before and after."""
    rows = [
        (name, item.class_name, quantity(item.bytes_before, "bytes"), quantity(item.bytes_after, "bytes"))
        for name, item in content.manifest.components.items()
    ]
    return table(
        [Column("component", "code"), Column("class", "code"), Column("before", "number"), Column("after", "number")],
        rows,
    )


def packages(content: Content) -> Table:
    """Compiled code of the artifact."""
    manifest = content.manifest
    rows = [
        (
            package.component,
            package.block,
            str(len(package.layers)),
            ", ".join(package.shapes),
            quantity(manifest.files[package.file].bytes, "bytes") if package.file in manifest.files else NONE,
            quantity(package.build_seconds, "s"),
            number(max(package.relative_errors.values())) if package.relative_errors else NONE,
        )
        for package in manifest.packages
    ]
    return table(
        [
            Column("component", "code"),
            Column("block", "code"),
            Column("layers", "number"),
            Column("shapes", "code"),
            Column("size", "number"),
            Column("build", "number"),
            Column("error against eager", "number"),
        ],
        rows,
    )


def layers(groups: Sequence[Group]) -> dict[str, Table]:
    """The layer map, one table a component."""
    return {
        component: _layers([group for group in groups if group.component == component])
        for component in dict.fromkeys(group.component for group in groups)
    }


def _layers(groups: Sequence[Group]) -> Table:
    rows = [
        (
            ", ".join(group.layers),
            str(group.count),
            group.scheme or group.reason,
            ", ".join(map(str, group.rows)) or NONE,
            " → ".join(map(str, group.features)) if group.features else NONE,
            _before_after(group.bytes_before, group.bytes_after),
        )
        for group in groups
    ]
    return table(
        [
            Column("layers", "code"),
            Column("count", "number"),
            Column("scheme, or why not", "mark"),
            Column("rows", "number"),
            Column("in → out", "number"),
            Column("weights", "number"),
        ],
        rows,
    )


def schemes(groups: Sequence[Group]) -> Table:
    """How much each scheme holds."""
    rows = [
        (name, str(count), quantity(before, "bytes"), quantity(after, "bytes"))
        for name, (count, before, after) in bytes_by_scheme(groups).items()
    ]
    return table(
        [Column("scheme", "mark"), Column("layers", "number"), Column("before", "number"), Column("after", "number")],
        rows,
    )


def actions(found: Sequence[Action]) -> Table:
    """What the other steps did."""
    rows = [
        (f"{item.step}: {item.kind}", f"{item.component}: {', '.join(item.layers)}", str(item.count), item.action)
        for item in found
    ]
    return table(["step", Column("modules", "code"), Column("count", "number"), "what was done"], rows)


def _before_after(before: int, after: int) -> str:
    return quantity(before, "bytes") if before == after else f"{quantity(before, 'bytes')} → {quantity(after, 'bytes')}"


def measurements(items: Sequence[Measured]) -> Table:
    """Quantities with their spread."""
    rows = [
        (
            "the machine" if item.arm == "machine" else label_of(item.arm),
            item.metric.replace("_", " "),
            item.shape or NONE,
            quantity(item.value, item.unit),
            quantity(item.low, item.unit),
            quantity(item.high, item.unit),
            str(item.count),
        )
        for item in items
    ]
    numbers = [Column(title, "number") for title in ("median", "from", "to", "values")]
    return table(["arm", "what", Column("shape", "code"), *numbers], rows)


def ratios(record: Record) -> Table:
    """Every ratio of the record."""
    rows = [
        (
            f"{label_of(item.arm)} / {label_of(item.over)}",
            item.metric.replace("_", " "),
            item.shape or NONE,
            number(item.value),
            number(item.low),
            number(item.high),
            str(item.count),
        )
        for item in record.ratios
    ]
    numbers = [Column(title, "number") for title in ("median", "from", "to", "rounds")]
    return table(["ratio", "what", Column("shape", "code"), *numbers], rows)


def applied(content: Content) -> Table:
    """What `apply` measured before it put the artifact in place."""
    found = content.manifest.verification
    rows = [
        (f"denoiser's first call, quantized against original, {label}", number(value))
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


def quality(record: VerificationRecord) -> Table:
    """Artifact beside control, one row a figure."""
    arms = list(record.arms)
    figures = {arm.name: _figures(arm) for arm in arms}
    names = list(dict.fromkeys(name for shown in figures.values() for name in shown))
    rows = [(name, *(figures[arm.name].get(name, NONE) for arm in arms)) for name in names]
    if record.original.score_percent is not None:
        words = f"images that show what their caption says (original: {number(record.original.score_percent)} %)"
        rows.append((words, *(_or_none(arm.score_percent, " %") for arm in arms)))
    return table(["", *(Column(f"{arm.name}: {arm.label}", "number") for arm in arms)], rows)


def _figures(arm: ArmRecord) -> dict[str, str]:
    found = {f"relative error, first call, {label}": _or_none(value) for label, value in arm.quantized_errors.items()}
    steps = [math.inf if value is None else value for value in arm.step_errors]
    if steps:
        found["relative error along the trajectory, median"] = number(statistics.median(steps))
        found["relative error along the trajectory, worst"] = number(max(steps))
    psnr = [math.inf if value is None else value for value in arm.psnr_db]
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
        # Null stands for infinity: the PSNR of equal images.
        rows.append(
            (
                f"verify.{check.bound}",
                check.where,
                allowed,
                "infinite" if check.value is None else number(check.value),
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
        (row.name, str(len(row.layers)), row.scheme, number(row.adds), quantity(row.bytes_saved, "bytes"))
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
