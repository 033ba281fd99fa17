"""Charts are SVG in the page's colours, the same each time, with text as text."""

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from qcompile.bench.arms import ARMS, COLD_ONLY
from qcompile.report.arms import LABELS, colour_of, in_order
from qcompile.report.charts import NARROW_PX, WIDE_PX, Bar, Chart, bar_chart, grid_chart, line_chart
from qcompile.report.svg import COLOURS, printable

BARS = (
    Bar("original <eager> & $x_1$", "original", 177.0, 170.0, 180.0),
    Bar("AoT", "artifact", 97.0, 97.0, 97.0),
    Bar("in parts", "artifact", 30.0, 30.0, 30.0, parts=(("phase-1", 10.0), ("phase-2", 20.0))),
    Bar("with a base", "control", 40.0, 40.0, 40.0, base=30.0),
)


def drawn() -> Chart:
    return bar_chart("steps", 'steps: "177" & <97>', BARS, "ms", ("limit", 78.0), (("artifact", "AoT"),))


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()).strip() for element in parsed(svg).iter() if element.tag.endswith("}text")]


def test_the_same_figure_gives_the_same_text() -> None:
    assert drawn() == drawn()


def test_a_matplotlibrc_changes_nothing_and_is_left_alone() -> None:
    first = drawn()
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "lines.linewidth": 9}):
        assert drawn() == first
        assert matplotlib.rcParams["font.size"] == 30


def test_two_widths_that_keep_the_size_of_text() -> None:
    chart = drawn()
    for svg, width in ((chart.wide, WIDE_PX), (chart.narrow, NARROW_PX)):
        root = parsed(svg)
        assert root.attrib["viewBox"].split()[2] == str(width)
        assert {"width", "height"}.isdisjoint(root.attrib)
        sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
        assert len(sizes) == len(texts(svg))
        assert min(sizes) >= 10


def test_every_bar_has_its_label_and_its_number() -> None:
    for svg in (drawn().wide, drawn().narrow):
        found = texts(svg)
        for piece in ("original <eager> & $x_1$", "177 ms", "AoT", "97.0 ms", "limit: 78.0 ms"):
            assert piece in found


def test_bars_are_as_long_as_their_values() -> None:
    paths = [element.attrib for element in parsed(drawn().wide).iter() if element.tag.endswith("}path")]
    lengths = []
    for attributes in paths:
        if "stroke-linejoin: miter" in attributes.get("style", "") and "fill: var(" in attributes["style"]:
            xs = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", attributes["d"])]
            lengths.append(max(xs) - min(xs))
    relative = [length / lengths[0] * 177 for length in lengths]
    assert relative == pytest.approx([177, 97, 10, 20, 30, 10], rel=1e-3)


def test_whiskers_only_where_there_is_a_spread() -> None:
    with_spread = bar_chart("a", "a", BARS[:1], "ms").wide
    without = bar_chart("a", "a", BARS[1:2], "ms").wide
    assert with_spread.count("LineCollection") == 1
    assert "LineCollection" not in without


def test_colours_fonts_and_rules_are_the_pages() -> None:
    for svg in (drawn().wide, drawn().narrow):
        assert not any(mark in svg for mark in COLOURS.values())
        assert re.findall(r"#[0-9a-f]{6}\b", re.sub(r"#[\w-]+-[mp]\w+", "", svg)) == []
        assert {"--original", "--artifact", "--phase-2", "--control-soft"} <= set(re.findall(r"--[\w-]+", svg))
        assert "<style" not in svg
        assert "metadata" not in svg
        assert "font-family" not in svg
        assert "DejaVu" not in svg
        assert re.search(r"20\d\d-\d\d-\d\d", svg) is None


def test_ids_do_not_clash() -> None:
    chart = drawn()
    other = bar_chart("images", "x", BARS, "ms")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (chart.wide, chart.narrow, other.wide, other.narrow)]
    assert all(ids)
    assert len(set.union(*ids)) == sum(map(len, ids))
    for svg, known in zip((chart.wide, chart.narrow), ids, strict=False):
        used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
        assert used
        assert used <= known


def test_what_it_shows_is_said_to_those_who_can_not_see_it() -> None:
    root = parsed(drawn().wide)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == 'steps: "177" & <97>'


def test_lines_leave_gaps_and_start_at_zero() -> None:
    chart = line_chart(
        "t", "t", [("control", "control", [0.1, None, 0.2]), ("artifact", "artifact", [0.3, 0.4, 0.5])], "call"
    )
    found = texts(chart.narrow)
    assert {"0", "0.25", "0.5", "1", "2", "3", "call"} <= set(found)
    assert chart.legend == (("control", "control"), ("artifact", "artifact"))
    assert chart.wide.count("<use") == 5


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e18])
def test_extreme_values_are_drawn(value: float) -> None:
    chart = bar_chart("x", "x", [Bar("a", "other", value, value, value)], "ms")
    assert "nan" not in chart.wide.lower().replace("dominant", "")
    line_chart("x", "x", [("a", "artifact", [value]), ("b", "control", [None])], "call")


def test_text_that_svg_can_not_hold_is_replaced() -> None:
    assert printable("a\0b\x1b\ud800c") == "a�b��c"
    assert printable("x" * 100, 10) == "x" * 9 + "…"
    parsed(bar_chart("x", "\0", [Bar("\0\x08", "other", 1, 1, 1)], "ms").wide)


def test_every_arm_of_the_benchmark_has_words_and_a_colour() -> None:
    arms = (*ARMS, *COLD_ONLY)
    assert LABELS.keys() == set(arms)
    assert {colour_of(arm) for arm in (*arms, "folder")} <= COLOURS.keys()
    assert in_order(["folder", "aot", "eager", "aot"]) == ["eager", "aot", "folder"]


@pytest.mark.parametrize("count", [1, 2, 38, 200])
def test_grids_have_a_square_for_each_place(count: int) -> None:
    rows = [("to_q", ["phase-4"] * count), ("norm", ["rule", *[None] * (count - 1)])]
    chart = grid_chart("g", "g", rows, (("phase-4", "int8_dynamic"),))
    for svg in (chart.wide, chart.narrow):
        paths = re.findall(r'<path d="([^"]+)"[^>]*style="fill: var\(--([\w-]+)\)', svg)
        assert sum(name == "phase-4" for _, name in paths) == count
        assert sum(name == "rule" for _, name in paths) == 1
        assert {"to_q", "norm", "0"} <= set(texts(svg))
        width = float(parsed(svg).attrib["viewBox"].split()[2])
        assert max(float(x) for path, _ in paths for x in re.findall(r"[ML] ([\d.]+) ", path)) <= width + 0.01
