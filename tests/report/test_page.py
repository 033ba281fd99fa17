"""The page: everything inside, everything escaped, nothing invented."""

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from qcompile.bench.record import Record
from qcompile.errors import MachineError
from qcompile.report import page
from qcompile.report.content import Content, gather
from qcompile.report.page import caveats, missing_parts, render
from report.conftest import ARTIFACT, GOLDEN, HOSTILE, bench_data, verification_data

VOID = {"meta", "link", "img", "input"}


class Reader(HTMLParser):
    """Tags and text of a page; refuses tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_same_content_gives_the_same_page(full: Content) -> None:
    assert render(full) == render(full)


def test_it_fetches_nothing(full: Content) -> None:
    html = render(full)
    for tag, attributes in Reader(html).tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []


def test_the_policy_allows_its_own_script_alone(full: Content) -> None:
    html = render(full)
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in Reader(html).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_all_parts_are_there(full: Content) -> None:
    reader = Reader(render(full))
    found = {attributes["id"] for tag, attributes in reader.tags if tag == "section"}
    assert found == {
        "headline",
        "pictures",
        "speed",
        "start",
        "memory",
        "quality",
        "layers",
        "environment",
        "recipe",
        "reproduce",
    }
    links = {(attributes["href"] or "")[1:] for tag, attributes in reader.tags if tag == "a"}
    assert links == found - {"headline"}
    for piece in (
        "1.37×",
        "1.29 to 1.41 in 30 rounds",
        "the weights are random",
        "power cap",
        "2.11.0+cu130",
        "NVIDIA H200",
        "single_transformer_blocks.{0..1}.proj_mlp",
        "qcompile bench flux_fp8_row --steps 30 --images 1 --record",
        "qcompile apply pipeline-int8_dynamic.yaml --out pipeline-int8_dynamic",
        "max_sequence_length: 8",
        "control: bfloat16, compiled",
        "missed",
    ):
        assert piece in reader.text, piece
    charts = [attributes for tag, attributes in reader.tags if tag == "svg"]
    assert len(charts) == 2 * 7  # step, image, start, GPU and process memory, trajectory, single blocks
    assert all(attributes["aria-label"] for attributes in charts)
    assert sum(tag == "img" for tag, _ in reader.tags) == 2


def test_every_chart_has_a_table(full: Content) -> None:
    html = render(full)
    charts = re.findall(r'<figure class="chart">.*?</figure>', html, re.DOTALL)
    assert len(charts) == 7
    for chart in charts[:-1]:  # the last is the map of blocks, whose table stands beneath
        assert "<details>" in chart
        assert "<td" in chart


def test_pictures_are_inside(full: Content) -> None:
    sources = [attributes["src"] or "" for tag, attributes in Reader(render(full)).tags if tag == "img"]
    for source, name in zip(sources, ("reference.png", "quantized.png"), strict=True):
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == (ARTIFACT / name).read_bytes()


def test_without_records_it_says_what_is_missing_and_how_to_make_it() -> None:
    content = gather(ARTIFACT)
    reader = Reader(render(content))
    assert missing_parts(content).keys() == {"bench record", "verification"}
    for command in missing_parts(content).values():
        assert command in reader.text
    assert sum(tag == "svg" for tag, _ in reader.tags) == 2  # the map of blocks
    assert "×" in reader.text  # the weights' ratio, which the manifest knows
    for piece in ("NaN", "None", "null", "Undefined"):
        assert piece not in reader.text


def test_what_was_not_quantized_is_not_called_so(full: Content) -> None:
    """A recipe may only compile."""
    changes = tuple(change for change in full.manifest.changes if change.kind != "quantize")
    artifact = dataclasses.replace(full.artifact, manifest=full.manifest.model_copy(update={"changes": changes}))
    data = bench_data()
    data["measured"] += [item | {"arm": "jit_from_original"} for item in data["measured"] if item["arm"] == "jit"]
    bench, verified = Record.model_validate(data), full.verification.model_copy(update={"sensitivity": None})
    content = dataclasses.replace(full, artifact=artifact, bench=bench, verification=verified, recipe_text="")
    html = render(content)
    for piece in ("artifact, AoT", "artifact, eager", "artifact, compiled (JIT)", "recipe anew (JIT)", ">Artifact<"):
        assert piece in html, piece
    assert "quantized" not in html.lower()
    assert "quantized, AoT" in render(full)
    assert "artifact, AoT" not in render(full)


def test_a_layer_whose_error_is_not_finite_is_shown(full: Content) -> None:
    table = full.verification.sensitivity
    row = table.rows[0].model_copy(update={"adds": None, "error_without": None})
    broken = table.model_copy(update={"error": None, "rows": (row,)})
    verified = full.verification.model_copy(update={"sensitivity": broken})
    html = render(dataclasses.replace(full, verification=verified))
    assert html.count("not finite") == render(full).count("not finite") + 1


def test_a_bare_model_says_why_there_are_no_pictures() -> None:
    assert (
        "This artifact holds no pictures: a bare model paints none."
        in Reader(render(gather(GOLDEN / "model-own_classes"))).text
    )


@pytest.mark.parametrize("metric", ["step", "image", "cold", "peak", "resident"])
def test_records_without_a_part_are_shown_without_it(full: Content, metric: str) -> None:
    assert full.bench is not None
    kept = tuple(item for item in full.bench.measured if not item.metric.startswith(metric))
    Reader(render(dataclasses.replace(full, bench=full.bench.model_copy(update={"measured": kept}))))


def test_an_empty_record_is_shown(full: Content) -> None:
    assert full.bench is not None
    empty = full.bench.model_copy(
        update={"measured": (), "ratios": (), "notes": (), "absent": {"jit": "out of memory"}}
    )
    text = Reader(render(dataclasses.replace(full, bench=empty))).text
    assert "jit was left out: out of memory" in text
    assert "The record holds no steps." in text


def test_what_has_to_be_read_with_the_figures(full: Content) -> None:
    found = caveats(full)
    assert "the GPU's clocks were held back after the steps of 1024x1024_b1: power cap" in found
    assert "the bound verify.max_step_error is missed: call 2 of 4" in found
    assert "it was measured in another environment than it was made in: torch, device, cpu_isa" in found
    assert all(words in Reader(render(full)).text for words in found)
    assert caveats(gather(ARTIFACT)) == []


def test_no_control_is_said_with_its_reason(full: Content) -> None:
    assert full.verification is not None
    arm = full.verification.arm("artifact")
    record = full.verification.model_copy(update={"arms": (arm,), "no_control": "no C++ compiler is here"})
    text = Reader(render(dataclasses.replace(full, verification=record))).text
    assert "There is no control: no C++ compiler is here." in text
    assert "no control: no C++ compiler is here" in text


def hostile(value: Any) -> Any:
    """The same data with every free text hostile."""
    if isinstance(value, dict):
        return {key: hostile(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [hostile(inner) for inner in value]
    return HOSTILE if isinstance(value, str) else value


def test_everything_is_escaped(redigested: Callable[..., Path], write: Callable[..., Path], full: Content) -> None:
    folder = redigested({"recipe.yaml": f'summary: "{HOSTILE}"\n# {HOSTILE}\n'.encode()})
    bench, verified = bench_data(), verification_data()
    for item in (*bench["measured"], *bench["ratios"]):
        item |= {"shape": HOSTILE}
    bench["measured"] += [
        item | {"arm": HOSTILE, "metric": "step", "unit": "ms"} for item in bench["measured"] if item["arm"] == "aot"
    ]
    bench |= {"command": HOSTILE, "date": HOSTILE, "notes": [HOSTILE], "absent": {HOSTILE: HOSTILE}}
    bench["environment"] = hostile(bench["environment"])
    digest, names = verified["recipe_sha256"], [arm["name"] for arm in verified["arms"]]
    verified = hostile(verified) | {"recipe_sha256": digest}
    for arm, name in zip(verified["arms"], names, strict=True):
        arm |= {"name": name, "quantized_errors": {HOSTILE: 0.01}, "perceptual": {HOSTILE: 1.0}}
    html = render(gather(folder, write("b.json", bench), write("v.json", verified)))
    reader = Reader(html)
    assert sum(tag == "script" for tag, _ in reader.tags) == 1
    assert "<script>alert" not in html
    assert html.count("alert(") > 20
    assert all(not name.startswith("on") for _, attributes in reader.tags for name in attributes)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "NEEDED", ("jinja2", "no_such_library"))
    with pytest.raises(MachineError) as caught:
        render(gather(ARTIFACT))
    assert "needs no_such_library" in str(caught.value)
    assert "pip install 'qcompile[report]'" in str(caught.value)
    assert caught.value.exit_code == 3
