"""The page in a real browser: it opens without a complaint, the slider moves, text fits, colours can be read."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from qcompile.report.content import gather
from qcompile.report.page import render
from report.conftest import GOLDEN, crowded_content, full_content

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
WIDTHS = (360, 1440)
SCHEMES = ("light", "dark")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no chromium and chromedriver here (Debian: chromium chromium-driver)"
    ),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # chromium refuses to start as root otherwise
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A full page, one of a bare model without records, and one full of long names and large models."""
    folder = tmp_path_factory.mktemp("pages")
    contents = {
        "full": full_content(folder),
        "bare": gather(GOLDEN / "model-own_classes"),
        "crowded": crowded_content(folder),
    }
    for name, content in contents.items():
        (folder / f"{name}.html").write_text(render(content), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in contents}


@pytest.fixture
def opened(chromium: Any, pages: dict[str, Path]) -> Callable[..., Any]:
    """Open a page at a width, in a colour scheme."""

    def load(name: str = "full", width: int = 1440, scheme: str = "light", script: bool = True, media: str = "") -> Any:
        command = chromium.execute_cdp_cmd
        phone = width < 600
        command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 2 if phone else 1, "mobile": phone},
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        command("Emulation.setEmulatedMedia", {"media": media, "features": features})
        command("Emulation.setScriptExecutionDisabled", {"value": not script})
        chromium.get_log("performance")
        chromium.get(pages[name].as_uri())
        command("Emulation.setScriptExecutionDisabled", {"value": False})
        return chromium

    return load


def rect(browser: Any, selector: str) -> dict[str, float]:
    return browser.execute_script(
        "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", selector
    )


def style(browser: Any, selector: str, name: str) -> str:
    return browser.execute_script(
        "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])", selector, name
    )


@pytest.mark.parametrize("name", ["full", "bare"])
def test_it_opens_without_errors_and_fetches_nothing(opened: Callable[..., Any], name: str) -> None:
    browser = opened(name)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []
    sent = [
        message["params"]["request"]["url"]
        for message in map(decoded, browser.get_log("performance"))
        if message["method"] == "Network.requestWillBeSent"
    ]
    # The page itself, and what is inside it.
    assert [url for url in sent if not url.startswith("data:")] == [browser.current_url]


def decoded(entry: dict[str, Any]) -> dict[str, Any]:
    return json.loads(entry["message"])["message"]


def test_the_policy_stops_what_is_not_in_it(opened: Callable[..., Any]) -> None:
    """So that the tests above could fail, and a hole in the escaping would be closed a second time."""
    browser = opened()
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.hole = 1'; document.body.append(s);"
        "const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);"
    )
    assert browser.execute_script("return window.hole") is None
    complaints = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "script-src" in complaints
    assert "img-src" in complaints


@pytest.mark.parametrize("width", WIDTHS)
def test_the_slider_moves_the_boundary(opened: Callable[..., Any], width: int) -> None:
    browser = opened(width=width)
    stage, start = rect(browser, ".compare"), rect(browser, ".divider")
    assert start["left"] + 1 == pytest.approx(stage["left"] + stage["width"] / 2, abs=1)
    assert style(browser, ".after", "clip-path") == "inset(0px 0px 0px 50%)"
    slider = browser.find_element(By.CSS_SELECTOR, ".compare input")
    slider.send_keys(Keys.ARROW_RIGHT * 20)
    assert slider.get_attribute("value") == "70"
    assert style(browser, ".after", "clip-path") == "inset(0px 0px 0px 70%)"
    moved = rect(browser, ".divider")
    assert moved["left"] - start["left"] == pytest.approx(0.2 * stage["width"], abs=1)
    slider.send_keys(Keys.HOME)
    assert style(browser, ".after", "clip-path") == "inset(0px 0px 0px 0%)"
    webdriver.ActionChains(browser).move_to_element_with_offset(slider, int(stage["width"] * 0.3), 0).click().perform()
    assert 75 <= int(slider.get_attribute("value")) <= 85
    clipped = style(browser, ".after", "clip-path")
    assert clipped == f"inset(0px 0px 0px {slider.get_attribute('value')}%)"
    assert browser.get_log("browser") == []


def test_the_slider_covers_the_pictures_and_shows_where_the_focus_is(opened: Callable[..., Any]) -> None:
    browser = opened()
    boxes = [rect(browser, selector) for selector in (".compare", ".before img", ".after img", ".compare input")]
    for box in boxes:
        assert box["width"] == pytest.approx(boxes[0]["width"], abs=1)
        assert box["height"] == pytest.approx(boxes[0]["height"], abs=1)
    assert style(browser, ".compare", "outline-style") == "none"
    browser.execute_script("document.querySelector('.compare input').focus()")
    assert style(browser, ".compare", "outline-style") == "solid"


@pytest.mark.parametrize(("script", "media"), [(False, ""), (True, "print")])
def test_pictures_stand_side_by_side_without_script_and_in_print(
    opened: Callable[..., Any], script: bool, media: str
) -> None:
    browser = opened(script=script, media=media)
    left, right = rect(browser, ".before img"), rect(browser, ".after img")
    assert left["width"] > 100
    assert left["right"] < right["left"]
    assert left["top"] == right["top"]
    assert style(browser, ".after", "clip-path") == "none"
    assert style(browser, ".compare input", "display") == "none"


OVERFLOWING = """
const found = [], page = document.documentElement.clientWidth;
for (const element of document.querySelectorAll("body *")) {
  if (element.closest("svg")) continue;
  const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!text || !element.offsetParent) continue;
  const range = document.createRange();
  range.selectNodeContents(element);
  const words = range.getBoundingClientRect();
  const inline = getComputedStyle(element).display === "inline";
  const box = (inline ? element.parentElement : element).getBoundingClientRect();
  if (words.right > box.right + 1 || words.left < box.left - 1 || words.right > page + 1 || words.left < -1)
    found.push(`${element.tagName}.${element.className}: ${element.textContent.slice(0, 40)}`);
}
return found;
"""
CHART_TEXT = """
const found = [];
for (const svg of document.querySelectorAll("svg")) {
  const box = svg.getBoundingClientRect();
  if (!box.width) continue;
  const scale = box.width / svg.viewBox.baseVal.width;
  for (const text of svg.querySelectorAll("text")) {
    const size = scale * parseFloat(getComputedStyle(text).fontSize), words = text.getBoundingClientRect();
    found.push({text: text.textContent.trim(), size, left: words.left - box.left, right: box.right - words.right,
                x: words.x, y: words.y, width: words.width, height: words.height, chart: svg.ariaLabel});
  }
}
return found;
"""


@pytest.mark.parametrize("width", [360, 760, 943, 944, 1440])
@pytest.mark.parametrize("name", ["full", "bare", "crowded"])
def test_text_fits(opened: Callable[..., Any], name: str, width: int) -> None:
    browser = opened(name, width)
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(OVERFLOWING) == []


@pytest.mark.parametrize("name", ["full", "crowded"])
@pytest.mark.parametrize("width", [360, 839, 840, 1440])
def test_text_in_charts_can_be_read_and_stays_inside(opened: Callable[..., Any], name: str, width: int) -> None:
    browser = opened(name, width)
    found = browser.execute_script(CHART_TEXT)
    assert len(found) > 40
    assert [item for item in found if item["size"] < 10] == []
    assert [item for item in found if item["left"] < -1 or item["right"] < -1] == []
    for index, one in enumerate(found):
        for other in found[index + 1 :]:
            apart = (
                one["x"] + one["width"] <= other["x"] + 1
                or other["x"] + other["width"] <= one["x"] + 1
                or one["y"] + one["height"] <= other["y"] + 2
                or other["y"] + other["height"] <= one["y"] + 2
            )
            assert apart, (one["text"], other["text"], one["chart"])


def luminance(colour: str) -> float:
    """Relative luminance as in WCAG 2.1."""
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio as in WCAG 2.1; 4.5 is asked for text."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_dark_and_light_can_both_be_read(opened: Callable[..., Any]) -> None:
    grounds = {}
    for scheme in SCHEMES:
        browser = opened(scheme=scheme)
        ground = grounds[scheme] = style(browser, "body", "background-color")
        for selector, least in (
            ("body", 12),
            (".note", 4.5),
            ("th", 4.5),
            (".eyebrow", 4.5),
            (".lacking, .spread", 4.5),
            ("svg text", 4.5),
        ):
            name = "fill" if selector == "svg text" else "color"
            assert contrast(style(browser, selector, name), ground) >= least, (scheme, selector)
        card = style(browser, ".card", "background-color")
        assert contrast(style(browser, ".card .control", "color"), card) >= 4.5
        chip = style(browser, ".chip:not(.quiet):not(.holds):not(.missed)", "background-color")
        chip_ink = style(browser, ".chip:not(.quiet):not(.holds):not(.missed)", "color")
        assert contrast(chip_ink, chip) >= 4.5
        for bar in (
            "--original",
            "--control",
            "--artifact",
            "--weights",
            "--other",
            *(f"--phase-{n}" for n in range(1, 6)),
        ):
            browser.execute_script("document.body.style.outlineColor = `var(${arguments[0]})`", bar)
            assert contrast(style(browser, "body", "outline-color"), ground) >= 1.8, (scheme, bar)
    assert luminance(grounds["light"]) > 0.8
    assert luminance(grounds["dark"]) < 0.05


def test_print_is_black_on_white_whatever_the_scheme(opened: Callable[..., Any]) -> None:
    browser = opened(scheme="dark", media="print")
    assert style(browser, "body", "background-color") == "rgb(255, 255, 255)"
    assert style(browser, "body", "color") == "rgb(0, 0, 0)"
    assert style(browser, "nav", "display") == "none"
    assert style(browser, ".wide", "display") == "block"
    assert style(browser, ".narrow", "display") == "none"
