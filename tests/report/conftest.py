"""A golden artifact, the record of a GPU made to belong to it, and a verification of the same recipe."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from qcompile.artifact.manifest import MANIFEST, FileRecord, from_bytes, to_bytes
from qcompile.artifact.read import read_artifact
from qcompile.bench.record import Record
from qcompile.report.content import Content, gather

GOLDEN = ROOT / "serialization" / "golden"
ARTIFACT = GOLDEN / "pipeline-int8_dynamic"
MEASURED = Path(__file__).with_name("bench_record.json")
"""A record of all arms, as one was; those in recipes/measured are renewed."""
HOSTILE = "<script>alert('$x_1$')</script>"
DIGEST = read_artifact(ARTIFACT).manifest.recipe.sha256


def bench_data() -> dict[str, Any]:
    """The committed record of an H200, as if it were one of the golden artifact's recipe."""
    return json.loads(MEASURED.read_text(encoding="utf-8")) | {"recipe_sha256": DIGEST}


def verification_data() -> dict[str, Any]:
    """What `qcompile verify --sensitivity --record` writes."""

    def arm(name: str, label: str, error: float) -> dict[str, Any]:
        return {
            "name": name,
            "label": label,
            "quantized_errors": {"32x32_b1": error},
            "compiled_errors": {"32x32_b1": error / 2},
            "step_errors": [error, 1.5 * error, 1.25 * error, None],
            "psnr_db": [None, 41.5],
            "ssim": [1.0, 0.987],
            "score_percent": 99.0,
            "score_loss_points": 0.5,
            "perceptual": {"lpips": 0.012},
        }

    return {
        "format": 1,
        "command": "qcompile verify flux --record verify.json",
        "date": "2026-01-02",
        "recipe": "pipeline-int8_dynamic",
        "recipe_version": 1,
        "recipe_sha256": DIGEST,
        "environment": bench_data()["environment"],
        "model": "flux-tiny",
        "shape": "32x32_b1",
        "holds": False,
        "images": [{"prompt": "a red circle", "seed": 0}, {"prompt": None, "seed": 1}],
        "original": {"score_percent": 99.5},
        "arms": [arm("control", "bfloat16, compiled", 0.004), arm("artifact", "pipeline-int8_dynamic", 0.02)],
        "no_control": None,
        "bounds": [
            {"bound": "max_relative_error", "limit": 0.05, "value": 0.02, "holds": True, "where": "the first call"},
            {"bound": "max_step_error", "limit": 0.01, "value": 0.03, "holds": False, "where": "call 2 of 4"},
            {"bound": "min_psnr_db", "limit": 30.0, "value": None, "holds": True, "where": "the PSNR of the image"},
        ],
        "sensitivity": {
            "error": 0.02,
            "calls": [0, 3],
            "rows": [
                {
                    "name": "transformer_blocks.*.ff.net.2",
                    "layers": ["transformer_blocks.0.ff.net.2"],
                    "scheme": "int8_dynamic",
                    "error_without": 0.015,
                    "adds": 0.005,
                    "bytes_saved": 944,
                }
            ],
        },
        "suggestion": None,
    }


def full_content(folder: Path) -> Content:
    """Everything a report can show; writes its records to a folder."""
    (folder / "bench.json").write_text(json.dumps(bench_data()))
    (folder / "verify.json").write_text(json.dumps(verification_data()))
    return gather(ARTIFACT, folder / "bench.json", folder / "verify.json")


def crowded_content(folder: Path) -> Content:
    """Words of 300 letters wherever text can stand, and a model of 57 blocks."""
    long, full = "x" * 300, full_content(folder)
    data = bench_data() | {"command": long, "notes": [long], "absent": {long: long}}
    for item in (*data["measured"], *data["ratios"]):
        item |= {"shape": long} if item["shape"] else {}
    data["measured"] += [item | {"arm": long} for item in data["measured"] if item["arm"] == "aot"]
    changes = tuple(
        dataclasses.replace(change, module=f"{name}.{index}.{change.module}")
        for name, count in (("transformer_blocks", 57), (long, 2))
        for index in range(count)
        for change in full.manifest.changes
        if change.kind == "quantize" and change.module
    )
    artifact = dataclasses.replace(full.artifact, manifest=full.manifest.model_copy(update={"changes": changes}))
    bench = Record.model_validate(data)
    return dataclasses.replace(full, artifact=artifact, bench=bench, summary=long, recipe_text=long)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write data as a JSON file, text and bytes as they are."""

    def put(name: str, data: Any) -> Path:
        path = tmp_path / name
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        return path

    return put


@pytest.fixture
def full(tmp_path: Path) -> Content:
    """Everything a report can show."""
    return full_content(tmp_path)


@pytest.fixture
def redigested(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """A copy of the artifact with other files, whose manifest says that this is how it was written."""

    def change(files: dict[str, bytes]) -> Path:
        folder = tmp_path / "artifact"
        shutil.copytree(ARTIFACT, folder)
        manifest = from_bytes((folder / MANIFEST).read_bytes())
        records = dict(manifest.files)
        for name, content in files.items():
            (folder / name).write_bytes(content)
            records[name] = FileRecord(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        (folder / MANIFEST).write_bytes(to_bytes(manifest.model_copy(update={"files": records})))
        return folder

    return change
