"""A matplotlib figure as inline SVG that takes its colours and fonts from the page.

matplotlib's SVG holds a date, style rules for the whole page, fixed colours, and ids that clash when several figures
share a page. Colours are put in as marks here and become the page's CSS variables, so that one figure serves light,
dark and print.
"""

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    name: f"#{index:02x}0b0c"
    for index, name in enumerate(
        (
            "ink",
            "muted",
            "rule",
            "paper",
            "original",
            "control",
            "artifact",
            "original-soft",
            "control-soft",
            "artifact-soft",
            "weights",
            "weights-soft",
            "other",
            "other-soft",
            "phase-1",
            "phase-2",
            "phase-3",
            "phase-4",
            "phase-5",
        )
    )
}
"""A mark for each colour of the page; `ink` is the CSS variable `--ink`."""
FONT_SIZE_PX = 12
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_MARKS = re.compile("|".join(COLOURS.values()))
_NAMES = {mark: name for name, mark in COLOURS.items()}
_UNPRINTABLE = re.compile(r"[^\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@contextmanager
def drawing() -> Iterator[None]:
    """Run the body with matplotlib's own defaults and ours, whatever a matplotlibrc says; undone at the end."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "qcompile",
                "font.size": FONT_SIZE_PX,
                # Labels come from files: a dollar sign is a dollar sign.
                "text.parse_math": False,
                "text.color": COLOURS["ink"],
            }
        )
        yield


def printable(text: str, longest: int = 60) -> str:
    """Text that SVG can hold, cut short where it is longer than a chart has room for."""
    clean = _UNPRINTABLE.sub("�", text)
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"


def to_svg(figure: "Figure", name: str, label: str) -> str:
    """The figure as an SVG element. The same figure gives the same text. Run inside `drawing`.

    Args:
        figure: drawn in `COLOURS`, in inches of 72 pixels.
        name: what ids begin with, unique on the page.
        label: what the chart shows, for those who can't see it.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    # Our own output: matplotlib escapes texts.
    root = ElementTree.fromstring(stream.getvalue())
    _drop(root)
    for element in root.iter():
        _rewrite(element, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", printable(label, 1000))
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _drop(root: ElementTree.Element) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            tag = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else ""
            if tag in ("metadata", "style") or (tag == "defs" and all(inner.tag.endswith("style") for inner in child)):
                parent.remove(child)


def _rewrite(element: ElementTree.Element, name: str) -> None:
    if _XLINK in element.attrib:
        element.set("href", element.attrib.pop(_XLINK).replace("#", f"#{name}-", 1))
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.attrib['id']}")
    if "clip-path" in element.attrib:
        element.set("clip-path", element.attrib["clip-path"].replace("url(#", f"url(#{name}-"))
    style = element.attrib.get("style")
    if style:
        style = _MARKS.sub(lambda found: f"var(--{_NAMES[found[0]]})", style)
        # The page's font, in the figure's size; matplotlib 3.10 writes both in one property.
        style = re.sub(r"font: (?:(\d+) )?([\d.]+)px [^;]*", r"font-weight: \1; font-size: \2px", style)
        style = re.sub(r"font-weight: ;|font-family: [^;]*;?", "", style)
        element.set("style", style)
