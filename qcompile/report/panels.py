"""Charts with their tables: steps, images, cold starts, memory, the error of each call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcompile.bench.record import Measured, Record
from qcompile.report import facts
from qcompile.report.arms import Words, colour_of, in_order
from qcompile.report.charts import Bar, Chart, bar_chart, grid_chart, line_chart
from qcompile.report.layers import Blocks
from qcompile.report.quantities import number, or_infinity, quantity
from qcompile.report.start import PHASES, starts
from qcompile.report.table import Column, Table, table
from qcompile.verify.record import VerificationRecord

SCHEME_COLOURS = ("phase-4", "phase-2", "phase-3", "phase-5", "phase-1")


@dataclass(frozen=True)
class Panel:
    """One chart, what it shows, and the same as a table."""

    title: str
    note: str
    chart: Chart
    table: Table | None
    """None where a table of the page says the same already."""


def speed(record: Record, words: Words) -> list[Panel]:
    """Steps, then whole images, for each declared shape."""
    found = []
    for metric, title in (("step", "One denoising step"), ("image", "One whole image")):
        for shape in dict.fromkeys(item.shape for item in record.measured if item.metric == metric):
            limit = record.find("machine", "limit", shape) if metric == "step" else None
            note = "Medians; whiskers from the fastest to the slowest." if metric == "step" else "Medians, per image."
            if limit:
                note += (
                    " The dashed line is the limit of this machine: the best kernel for each matrix product, "
                    "convolution and attention of the step."
                )
            found.append(_medians(record, metric, shape, f"{title}, {shape}", note, limit, words))
    return found


def memory(record: Record, words: Words) -> list[Panel]:
    """Peak and resident memory, of the GPU where there is one, and of the process."""
    found = []
    for metric, title in (("peak_gpu", "GPU memory"), ("peak_cpu", "Memory of the process")):
        items = _of_arms(record, metric, None)
        if not items:
            continue
        resident = {
            item.arm: item.value for item in record.measured if item.metric == metric.replace("peak", "resident")
        }
        bars = [
            Bar(
                words(item.arm),
                colour_of(item.arm),
                item.value,
                item.low,
                item.high,
                base=min(resident[item.arm], item.value) if item.arm in resident else None,
            )
            for item in items
        ]
        painted = [item.arm for item in items if record.find(item.arm, "cold, image")]
        note = f"Peak of a fresh process that loads one arm and {'paints one image' if painted else 'takes steps'}."
        if painted and (without := [words(item.arm) for item in items if item.arm not in painted]):
            note += f" Without an image: {', '.join(without)}."
        if resident:
            note = f"{note} The full colour is what stays resident."
        rows = [*items, *(item for item in record.measured if item.metric == metric.replace("peak", "resident"))]
        chart = bar_chart(f"memory-{metric}", f"{title}: {_said(items, words)}", bars, "bytes")
        found.append(Panel(title, note, chart, facts.measurements(rows, words)))
    return found


def waterfall(record: Record, words: Words) -> Panel | None:
    """From process start to first image."""
    every = starts(record)
    if not every:
        return None
    with_image = any("image" in start.seconds for start in every)
    # Bars end where the same thing is done: an arm that paints no image (a CUDA graph can't) is told of below.
    found = [start for start in every if "image" in start.seconds or not with_image]
    colours = {phase: f"phase-{index}" for index, phase in enumerate(PHASES, 1)}
    bars = [
        Bar(
            words(start.arm),
            "artifact",
            start.total,
            start.total,
            start.total,
            parts=tuple((colours[phase], seconds) for phase, seconds in start.seconds.items()),
        )
        for start in found
    ]
    title = "From process start to " + ("first image" if with_image else "first step")
    said = "; ".join(f"{words(start.arm)} {quantity(start.total, 's')}" for start in found)
    used = [phase for phase in PHASES if any(phase in start.seconds for start in found)]
    chart = bar_chart(
        "start", f"{title}: {said}", bars, "s", legend=tuple((colours[phase], PHASES[phase]) for phase in used)
    )
    rows = [
        (
            words(start.arm),
            *(quantity(start.seconds[phase], "s") if phase in start.seconds else facts.NONE for phase in used),
            quantity(start.total, "s"),
            str(start.count),
        )
        for start in found
    ]
    columns = [Column(PHASES[phase], "number") for phase in used]
    shown = table(["arm", *columns, Column("together", "number"), Column("processes", "number")], rows)
    note = f"A new process with empty compiler caches: one step{', then a whole image' if with_image else ''}."
    note += "".join(
        f" {words(start.arm)} paints no image, and takes its first step after {quantity(start.total, 's')}."
        for start in every
        if start not in found
    )
    return Panel(title, note, chart, shown)


def trajectory(record: VerificationRecord) -> Panel | None:
    """The relative error of each call along the original's trajectory, artifact beside control."""
    arms = [arm for arm in record.arms if arm.step_errors]
    if not arms:
        return None
    lines = [
        (f"{arm.name}: {arm.label}", "control" if arm.name == "control" else "artifact", arm.step_errors)
        for arm in arms
    ]
    title = f"Relative error of each call, {record.shape}"
    worst = "; ".join(f"{arm.name} at worst {number(max(map(or_infinity, arm.step_errors)))}" for arm in arms)
    chart = line_chart("trajectory", f"{title}: {worst}", lines, "call along the original's trajectory")
    length = max(len(arm.step_errors) for arm in arms)
    rows = [
        (
            str(index + 1),
            *(
                number(or_infinity(arm.step_errors[index])) if index < len(arm.step_errors) else facts.NONE
                for arm in arms
            ),
        )
        for index in range(length)
    ]
    note = "The denoiser is run on the inputs that the original's has at every step of its own image."
    return Panel(title, note, chart, table(["call", *(Column(arm.name, "number") for arm in arms)], rows))


def blocks(found: Sequence[Blocks]) -> dict[str, list[Panel]]:
    """Which scheme each layer of the repeated blocks has, by component."""
    schemes = list(dict.fromkeys(scheme for item in found for scheme in item.schemes.values() if scheme))
    colours = {scheme: SCHEME_COLOURS[index % len(SCHEME_COLOURS)] for index, scheme in enumerate(schemes)}
    shown: dict[str, list[Panel]] = {}
    for place, item in enumerate(found):
        used = list(dict.fromkeys(scheme for scheme in item.schemes.values() if scheme))
        rows = [(role, [_cell(item, role, index, colours) for index in range(item.count)]) for role in item.roles]
        legend = tuple((colours[scheme], scheme) for scheme in used)
        if None in item.schemes.values():
            legend += (("rule", "not quantized"),)
        said = f"Layers of {item.name}, blocks 0 to {item.count - 1}: {', '.join(words for _, words in legend)}"
        chart = grid_chart(f"blocks-{place}", said, rows, legend)
        note = f"{item.count} blocks from left to right, their layers from top to bottom."
        shown.setdefault(item.component, []).append(Panel(item.name, note, chart, None))
    return shown


def _cell(item: Blocks, role: str, index: int, colours: Mapping[str, str]) -> str | None:
    if (role, index) not in item.schemes:
        return None
    scheme = item.schemes[role, index]
    return "rule" if scheme is None else colours[scheme]


def _medians(
    record: Record, metric: str, shape: str, title: str, note: str, limit: Measured | None, words: Words
) -> Panel:
    items = _of_arms(record, metric, shape)
    bars = [Bar(words(item.arm), colour_of(item.arm), item.value, item.low, item.high) for item in items]
    line = ("limit", limit.value) if limit else None
    chart = bar_chart(f"{metric}-{_word(shape)}", f"{title}: {_said(items, words)}", bars, "ms", line)
    parts = [item for item in record.measured if item.metric.startswith(f"{metric}, ") and item.shape == shape]
    return Panel(title, note, chart, facts.measurements([*items, *([limit] if limit else []), *parts], words))


def _of_arms(record: Record, metric: str, shape: str | None) -> list[Measured]:
    arms = in_order(item.arm for item in record.measured if item.metric == metric)
    return [item for arm in arms if (item := record.find(arm, metric, shape))]


def _said(items: list[Measured], words: Words) -> str:
    return "; ".join(f"{words(item.arm)} {quantity(item.value, item.unit)}" for item in items)


def _word(shape: str) -> str:
    """A shape's label as part of an id; records may hold any text."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in shape)[:40]
