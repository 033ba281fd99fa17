"""What goes into a report: records of the same recipe, and nothing else."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcompile.errors import ArtifactError, ModelError
from qcompile.report.content import Content, gather
from report.conftest import ARTIFACT, GOLDEN, bench_data, verification_data

Write = Callable[[str, Any], Path]


def test_an_artifact_alone() -> None:
    content = gather(ARTIFACT)
    assert content.bench is None
    assert content.verification is None
    assert content.pictures is not None
    assert [(picture.width, picture.height) for picture in content.pictures] == [(32, 32), (32, 32)]
    assert content.recipe_text == (ARTIFACT / "recipe.yaml").read_text(encoding="utf-8")


def test_a_bare_model_has_no_pictures() -> None:
    assert gather(GOLDEN / "model-own_classes").pictures is None


def test_everything(full: Content) -> None:
    assert full.bench is not None
    assert full.bench.find("aot", "step") is not None
    assert full.verification is not None
    assert full.verification.arm("control") is not None


def test_records_of_another_recipe_are_refused(write: Write) -> None:
    other = {"recipe_sha256": "f" * 64, "recipe": "other"}
    with pytest.raises(ModelError) as caught:
        gather(ARTIFACT, write("b.json", bench_data() | other))
    for piece in ("b.json: recipe_sha256 is ffffffffffff… (other version 1)", "pipeline-int8_dynamic version 1, "):
        assert piece in str(caught.value)
    assert f"qcompile bench {ARTIFACT} --record" in str(caught.value)
    with pytest.raises(ModelError, match="qcompile verify .* --record"):
        gather(ARTIFACT, None, write("v.json", verification_data() | other))


@pytest.mark.parametrize(
    "change",
    [
        {"value": -1.0},
        {"low": 200.0, "high": 300.0},
        {"high": 1.0},
        {"count": 0},
        {"value": 1e30, "high": 1e30},
    ],
)
def test_values_that_no_measurement_gives_are_refused(write: Write, change: dict[str, float]) -> None:
    data = bench_data()
    index = next(i for i, item in enumerate(data["measured"]) if item["metric"] == "step")
    data["measured"][index] |= change
    with pytest.raises(ModelError, match=rf"b\.json: measured\.{index}: low .* a count from 1 up are needed"):
        gather(ARTIFACT, write("b.json", data))


@pytest.mark.parametrize("value", [1.7e308, -0.5, -1.7e308])
@pytest.mark.parametrize("name", ["quantized_errors", "compiled_errors", "step_errors"])
def test_errors_that_no_verification_gives_are_refused(write: Write, name: str, value: float) -> None:
    data = verification_data()
    data["arms"][1][name] = [0.01, value] if name == "step_errors" else {"32x32_b1": value}
    place = rf"v\.json: arms\.1\.{name}\.{'1' if name == 'step_errors' else '32x32_b1'} is {re.escape(f'{value:g}')}; "
    with pytest.raises(ModelError, match=place + "relative errors from 0 to .*`qcompile verify … --record FILE"):
        gather(ARTIFACT, None, write("v.json", data))


def test_bytes_that_no_layer_has_are_refused(write: Write) -> None:
    data = verification_data()
    data["sensitivity"]["rows"][0]["bytes_saved"] = 10**400
    with pytest.raises(ModelError, match=r"v\.json: sensitivity\.rows\.0\.bytes_saved is of 401 digits"):
        gather(ARTIFACT, None, write("v.json", data))


def test_ratios_are_looked_at_too(write: Write) -> None:
    data = bench_data()
    data["ratios"][3] |= {"low": -2.0}
    with pytest.raises(ModelError, match=r"b\.json: ratios\.3: low -2"):
        gather(ARTIFACT, write("b.json", data))


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        ("{", "Invalid JSON"),
        (b"\xff\xfe\x00", "Invalid JSON"),
        (json.dumps({"format": 1}), "Field required"),
        (json.dumps(bench_data() | {"format": 2}), "format: Input should be 1"),
        (json.dumps(bench_data() | {"surprise": 1}), "surprise: Extra inputs are not permitted"),
        (json.dumps(bench_data() | {"notes": [["a"]]}), "notes.0: Input should be a valid string"),
    ],
)
def test_broken_records_are_refused_with_file_and_place(write: Write, content: object, piece: str) -> None:
    with pytest.raises(ModelError) as caught:
        gather(ARTIFACT, write("b.json", content))
    assert "b.json is no record of `qcompile bench`: " in str(caught.value)
    assert piece in str(caught.value)


def test_a_bench_record_is_no_verification(write: Write) -> None:
    with pytest.raises(ModelError, match="is no record of `qcompile verify`"):
        gather(ARTIFACT, None, write("b.json", bench_data()))


def test_a_broken_artifact_is_refused(redigested: Callable[..., Path]) -> None:
    folder = redigested({})
    (folder / "reference.png").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"reference\.png has 0 bytes"):
        gather(folder)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_pictures_that_are_none_are_refused(redigested: Callable[..., Path], content: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"quantized\.png is no PNG image"):
        gather(redigested({"quantized.png": content}))
