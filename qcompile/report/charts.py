"""The charts, each drawn twice: for a wide page, and for a phone, where labels stand above their bars."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qcompile.report.quantities import number, scale
from qcompile.report.svg import COLOURS, FONT_SIZE_PX, drawing, printable, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE_PX, NARROW_PX = 912, 328
"""The page's widest column, and a phone of 360 pixels less the page's margins: text keeps its size on both."""
_LABEL_PX = 190
_BAR_PX = 14
_VALUE_PX = 92
"""Room for the number behind the longest bar."""


@dataclass(frozen=True)
class Bar:
    """One bar: a median with its extremes, or parts that follow each other."""

    label: str
    colour: str
    value: float
    low: float
    high: float
    parts: tuple[tuple[str, float], ...] = ()
    """(colour, length) in place of one length; they add up to `value`."""
    base: float | None = None
    """A shorter length shown inside the bar in the full colour, the rest of it lighter."""


@dataclass(frozen=True)
class Chart:
    """One chart as two SVG elements."""

    wide: str
    narrow: str
    legend: tuple[tuple[str, str], ...] = field(default=())
    """(colour, words)."""


def bar_chart(
    name: str,
    label: str,
    bars: Sequence[Bar],
    unit: str,
    line: tuple[str, float] | None = None,
    legend: tuple[tuple[str, str], ...] = (),
) -> Chart:
    """Horizontal bars with whiskers from the smallest to the largest value.

    Args:
        name: unique on the page.
        label: what the chart shows, for those who can't see it.
        bars: from the top down, at least one.
        unit: of the values: `ms`, `s`, `bytes`.
        line: (words, value) of a vertical line through all bars.
        legend: (colour, words) beneath the chart.
    """
    with drawing():
        wide, narrow = (
            to_svg(_bars(bars, unit, line, is_wide), f"{name}-{kind}", label)
            for kind, is_wide in (("wide", True), ("narrow", False))
        )
    return Chart(wide, narrow, legend)


def line_chart(name: str, label: str, lines: Sequence[tuple[str, str, Sequence[float | None]]], across: str) -> Chart:
    """Values by index from 1, from zero up.

    Args:
        name: unique on the page.
        label: what the chart shows, for those who can't see it.
        lines: (words, colour, values); None leaves a gap.
        across: what the index counts.
    """
    with drawing():
        wide, narrow = (
            to_svg(_lines(lines, across, width), f"{name}-{kind}", label)
            for kind, width in (("wide", WIDE_PX), ("narrow", NARROW_PX))
        )
    return Chart(wide, narrow, tuple((colour, words) for words, colour, _ in lines))


def grid_chart(
    name: str,
    label: str,
    rows: Sequence[tuple[str, Sequence[str | None]]],
    legend: tuple[tuple[str, str], ...],
) -> Chart:
    """Squares in rows, one a column.

    Args:
        name: unique on the page.
        label: what the chart shows, for those who can't see it.
        rows: (words, colours), all of one length; None leaves a place empty.
        legend: (colour, words) beneath the chart.
    """
    with drawing():
        wide, narrow = (
            to_svg(_grid(rows, width, left), f"{name}-{kind}", label)
            for kind, width, left in (("wide", WIDE_PX, _LABEL_PX), ("narrow", NARROW_PX, 158))
        )
    return Chart(wide, narrow, legend)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")
    FigureCanvasSVG(figure)
    return figure


def _fitting(text: str, width: float) -> str:
    """Text cut to a width in pixels, as wide as matplotlib's own font is; the fonts of most systems are narrower."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    measure, font = TextToPath().get_text_width_height_descent, FontProperties(size=FONT_SIZE_PX)
    for longest in range(60, 0, -1):
        shown = printable(text, longest)
        if measure(shown, font, False)[0] <= width:
            return shown
    return ""


def _axes(figure: "Figure", left: float, top: float, right: float, bottom: float) -> "Axes":
    """Axes with these margins in pixels, without a frame."""
    width, height = (inches * 72 for inches in figure.get_size_inches())
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height))
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _bars(bars: Sequence[Bar], unit: str, line: tuple[str, float] | None, wide: bool) -> "Figure":
    largest = max([bar.high for bar in bars] + [line[1] if line else 0.0]) or 1.0
    divisor, shown_unit = scale(unit, max(bar.value for bar in bars))
    row = 30 if wide else 44
    top, width, left = (24 if line else 4), WIDE_PX if wide else NARROW_PX, _LABEL_PX if wide else 1
    height = top + row * len(bars) + 4
    figure = _figure(width, height)
    axes = _axes(figure, left, top, 0, 4)
    plot_px = width - left
    axes.set_xlim(0, largest * plot_px / (plot_px - _VALUE_PX))
    axes.set_ylim(row * len(bars), 0)  # pixels, from the top
    axes.set_xticks([])
    axes.set_yticks([])
    for index, bar in enumerate(bars):
        middle = index * row + (row / 2 if wide else row - _BAR_PX / 2 - 5)
        _bar(axes, bar, middle)
        gap = largest / (plot_px - _VALUE_PX)  # one pixel
        axes.text(
            max(bar.high, bar.value) + 7 * gap,
            middle,
            f"{number(bar.value / divisor)} {shown_unit}",
            va="center_baseline",
            ha="left",
            fontweight="bold",
        )
        if wide:
            axes.text(-10 * gap, middle, _fitting(bar.label, left - 12), va="center_baseline", ha="right")
        else:
            axes.text(0, middle - _BAR_PX / 2 - 7, _fitting(bar.label, width - 8), va="baseline", ha="left")
        if line:
            # Across bars only: on a phone it would run through their labels.
            around = [middle - 9, middle + 9]
            axes.plot([line[1]] * 2, around, color=COLOURS["ink"], linewidth=1.5, linestyle=(0, (2, 1.5)))
    axes.plot([0, 0], [0, row * len(bars)], color=COLOURS["muted"], linewidth=1.5 if wide else 0, clip_on=False)
    if line:
        words, at = line
        side = "right" if at > largest / 2 else "left"
        axes.text(
            at,
            -8,
            f"{words}: {number(at / divisor)} {shown_unit}",
            va="baseline",
            ha=side,
            color=COLOURS["muted"],
        )
    return figure


def _bar(axes: "Axes", bar: Bar, middle: float) -> None:
    start = 0.0
    lengths = bar.parts or ((bar.colour, bar.value),)
    if bar.base is not None:
        lengths = ((bar.colour, bar.base), (f"{bar.colour}-soft", max(bar.value - bar.base, 0.0)))
    for colour, length in lengths:
        axes.barh(
            middle, length, _BAR_PX, left=start, color=COLOURS[colour], edgecolor=COLOURS["paper"], linewidth=0.75
        )
        start += length
    if bar.high > bar.low:
        axes.errorbar(
            bar.value,
            middle,
            xerr=[[bar.value - bar.low], [bar.high - bar.value]],
            color=COLOURS["ink"],
            elinewidth=1.5,
            capsize=4,
            capthick=1.5,
        )


def _lines(lines: Sequence[tuple[str, str, Sequence[float | None]]], across: str, width: int) -> "Figure":
    figure = _figure(width, 200)
    axes = _axes(figure, 56, 10, 12, 40)
    largest = max((value for _, _, values in lines for value in values if value is not None), default=0.0) or 1.0
    count = max(len(values) for _, _, values in lines)
    axes.set_xlim(1 - 0.02 * count, count + 0.02 * count)
    axes.set_ylim(0, largest * 1.08)
    for _, colour, values in lines:
        points = [(index + 1, value) for index, value in enumerate(values) if value is not None]
        axes.plot(
            [index for index, _ in points],
            [value for _, value in points],
            color=COLOURS[colour],
            linewidth=2,
            marker="o",
            markersize=5,
            linestyle="--" if colour == "control" else "-",
            clip_on=False,
        )
    ticks = [largest * share for share in (0, 0.5, 1)]
    axes.set_yticks(ticks, [number(tick) for tick in ticks])
    step = max(1, -(-count // (width // 60)))
    axes.set_xticks(range(1, count + 1, step))
    axes.grid(axis="y", color=COLOURS["rule"], linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=COLOURS["muted"], pad=6)
    axes.set_xlabel(across, color=COLOURS["muted"])
    return figure


def _grid(rows: Sequence[tuple[str, Sequence[str | None]]], width: int, left: int) -> "Figure":
    count = max(len(colours) for _, colours in rows)
    room = width - left - 8  # half a number sticks out at the end
    side, row = min(22.0, room / count), 18
    figure = _figure(width, row * len(rows) + 20)
    axes = _axes(figure, left, 0, 8, 20)
    axes.set_xlim(0, room / side)
    axes.set_ylim(row * len(rows), 0)
    gap = min(0.12, 1 / side)
    for index, (words, colours) in enumerate(rows):
        shown = [(column, COLOURS[colour]) for column, colour in enumerate(colours) if colour is not None]
        axes.broken_barh(
            [(column + gap / 2, 1 - gap) for column, _ in shown],
            (index * row + 2, row - 4),
            facecolors=[colour for _, colour in shown],
        )
        axes.text(-9 / side, index * row + row / 2, _fitting(words, left - 12), va="center_baseline", ha="right")
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if step * side >= 22)
    axes.set_xticks([column + 0.5 for column in range(0, count, step)], [str(n) for n in range(0, count, step)])
    axes.set_yticks([])
    axes.tick_params(length=0, labelcolor=COLOURS["muted"], pad=4)
    return figure
