"""Lanes of tests/gpu/measure_all.py, with jobs that need no GPU."""

import importlib.util
import json
import os
import signal
import subprocess
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
    before, handler = PROCESSORS_OF(0), signal.getsignal(signal.SIGINT)
    try:
        assert module.main() == 0
    finally:
        os.sched_setaffinity(0, before)
        signal.signal(signal.SIGINT, handler)
    return json.loads((out / "status.json").read_text())


@pytest.mark.parametrize("name", ["choice", "search", "scope", "long", "flux", "rest", "kernels"])
@pytest.mark.parametrize("gpus", [1, 2])
def test_every_job_of_a_set_ends_and_its_records_are_there(
    measure_all: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: int, name: str
) -> None:
    cpus = os.cpu_count()
    if gpus > 1 and cpus < 4:
        # Lanes get two to four eighths of them.
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: [0] * 8)
    before = PROCESSORS_OF(0)
    status = run(measure_all, monkeypatch, tmp_path / "out", gpus, name, "--seconds", "120")
    assert PROCESSORS_OF(0) == before  # a test that runs on one processor from here on takes ten times as long
    jobs = {job for lane in measure_all.SETS[name] for job in lane.jobs}
    assert status.keys() == jobs
    assert {found[-1].partition(" after")[0] for found in status.values()} == {"ends with 0"}
    assert {path.stem for path in (tmp_path / "out" / "records").iterdir()} == jobs
    assert len(list((tmp_path / "out").glob("*.log"))) == len(jobs)


def test_a_job_that_does_not_end_is_interrupted_and_the_rest_is_left_out(
    measure_all: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure_all, "STOP_SECONDS", 2)
    lane = measure_all.Lane(0, 8, ("flux_dev", "flux_int8", "sdxl_int8"))
    monkeypatch.setitem(measure_all.SETS, "search", (lane,))
    job = (*PYTHON, NEVER_ENDS, str(measure_all.RECORDS / "flux_int8.json"))
    monkeypatch.setitem(measure_all.JOBS, "flux_int8", job)
    started, handler = time.monotonic(), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell has it that starts a command in the background
    try:
        status = run(measure_all, monkeypatch, tmp_path / "out", 1, "search", "--seconds", "8")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - started < 60
    assert status.keys() == {"flux_dev", "flux_int8", "sdxl_int8"}
    assert status["flux_int8"][-1].startswith("out of time")
    assert status["sdxl_int8"] == [status["sdxl_int8"][0]]
    assert status["sdxl_int8"][0].startswith("no time left")
    assert (tmp_path / "out" / "records" / "flux_int8.json").read_text() == "interrupted"


def test_sets_hold_what_their_jobs_need(measure_all: ModuleType) -> None:
    for name, lanes in measure_all.SETS.items():
        jobs = [job for lane in lanes for job in lane.jobs]
        assert len(set(jobs)) == len(jobs)
        assert set(jobs) <= measure_all.JOBS.keys()
        assert sum(lane.eighths for lane in lanes) <= 8
        assert {lane.gpu for lane in lanes} <= {0, 1}
        order = measure_all.in_order(jobs)
        assert set(order) == set(jobs), name
        for job in jobs:
            before = {other for other in measure_all.AFTER.get(job, ()) if other in jobs}
            assert before <= set(order[: order.index(job)]), (name, job)
    assert {other for others in measure_all.AFTER.values() for other in others} <= measure_all.JOBS.keys()
    listed = {job for lanes in measure_all.SETS.values() for lane in lanes for job in lane.jobs}
    assert listed == measure_all.JOBS.keys()


def test_an_interrupted_measurement_waits_for_what_it_has_started(tmp_path: Path) -> None:
    """`subprocess.run` would kill the benchmark a quarter of a second after it was interrupted, before it has written."""
    program = f"""
import os, signal, subprocess, sys, threading
sys.path[:0] = [{str(ROOT / "tests" / "gpu")!r}, {str(ROOT)!r}]
import measure
# Whoever started these tests in the background may have left it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
child = "import pathlib, signal, time\\nsignal.signal(signal.SIGINT, signal.default_int_handler)\\ntry: print('up', flush=True); time.sleep(60)\\n" \
    "except KeyboardInterrupt: time.sleep(2); pathlib.Path({str(tmp_path / "record")!r}).write_text('measured')"
real = subprocess.Popen
def started(words, **options):
    process = real([sys.executable, "-c", child], stdout=subprocess.PIPE)
    process.stdout.readline()
    threading.Timer(0.2, os.killpg, (os.getpid(), signal.SIGINT)).start()
    return process
subprocess.Popen = started
measure.qcompile("bench")
"""
    process = subprocess.Popen([*PYTHON, program], start_new_session=True, stderr=subprocess.PIPE, text=True)
    _, said = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in said
    assert (tmp_path / "record").read_text() == "measured"
