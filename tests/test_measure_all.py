"""Lanes of tests/gpu/measure_all.py, with jobs that need no GPU."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

PYTHON = (sys.executable, "-c")
PROCESSORS_OF = os.sched_getaffinity
"""Itself, where a test puts another one in its place."""
RECORD = "import os, sys, pathlib; pathlib.Path(sys.argv[1]).write_text(str(len(os.sched_getaffinity(0))))"
NEVER_ENDS = """
import pathlib, sys, time
try:
    print("asleep", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    pathlib.Path(sys.argv[1]).write_text("interrupted")
"""


@pytest.fixture
def measure_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_all", ROOT / "tests" / "gpu" / "measure_all.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "measure_all", module)
    spec.loader.exec_module(module)
    records = tmp_path / "records"
    monkeypatch.setattr(module, "RECORDS", records)
    for job in module.JOBS:
        monkeypatch.setitem(module.JOBS, job, (*PYTHON, RECORD, str(records / f"{job}.json")))
    return module


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path, gpus: int, *words: str) -> dict:
    monkeypatch.setattr(module, "_count_gpus", lambda: gpus)
    monkeypatch.setattr(sys, "argv", ["measure_all.py", "--out", str(out), *words])
    before = PROCESSORS_OF(0)
    try:
        assert module.main() == 0
    finally:
        os.sched_setaffinity(0, before)
    return json.loads((out / "status.json").read_text())


@pytest.mark.parametrize("gpus", [1, 2])
def test_every_job_ends_and_its_records_are_there(
    measure_all: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: int
) -> None:
    cpus = os.cpu_count()
    if gpus > 1 and cpus < 4:
        # Lanes get three, three and two eighths of them.
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: [0] * 8)
    before = PROCESSORS_OF(0)
    status = run(measure_all, monkeypatch, tmp_path / "out", gpus, "--seconds", "120")
    assert PROCESSORS_OF(0) == before  # a test that runs on one processor from here on takes ten times as long
    assert status.keys() == measure_all.JOBS.keys()
    assert {found[-1].partition(" after")[0] for found in status.values()} == {"ends with 0"}
    names = {path.stem for path in (tmp_path / "out" / "records").iterdir()}
    assert names == measure_all.JOBS.keys()
    assert (tmp_path / "out" / "scopes.log").is_file()


def test_a_job_that_does_not_end_is_interrupted_and_the_rest_is_left_out(
    measure_all: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure_all, "STOP_SECONDS", 2)
    job = (*PYTHON, NEVER_ENDS, str(measure_all.RECORDS / "flux_int8.json"))
    monkeypatch.setitem(measure_all.JOBS, "flux_int8", job)
    started = time.monotonic()
    status = run(
        measure_all, monkeypatch, tmp_path / "out", 1, "--seconds", "8", "--only", "flux_dev", "flux_int8", "sdxl_int8"
    )
    assert time.monotonic() - started < 60
    assert status.keys() == {"flux_dev", "flux_int8", "sdxl_int8"}
    assert status["flux_int8"][-1].startswith("out of time")
    assert status["sdxl_int8"] == [status["sdxl_int8"][0]]
    assert status["sdxl_int8"][0].startswith("no time left")
    assert (tmp_path / "out" / "records" / "flux_int8.json").read_text() == "interrupted"


def test_jobs_wait_for_jobs_that_exist(measure_all: ModuleType) -> None:
    in_lanes = [job for lane in measure_all.LANES for job in lane]
    assert sorted(in_lanes) == sorted(measure_all.JOBS)
    for job, others in measure_all.AFTER.items():
        assert {job, *others} <= measure_all.JOBS.keys()
