"""Measure what RECORD.md asks for in sets, each of which starts from nothing.

    PYTHONPATH=.:tests python tests/gpu/measure_all.py SET --seconds 560 --out DIR

Sets, for two GPUs, 32 processors and 256 GB of memory (with one GPU the lanes follow each other):

    choice   flux_autoquant beside flux_fp8_row, wan_fp8
    search   flux_int8
    scope    flux_fp8_row, blocks against the whole graph, four sizes against one
    long     sdxl_int8, sdxl_fp8; beside them flux_fp8_row, GPU tests, profiles by blocks and whole, flux_fp8, the decoder
    kernels  why sdxl_int8 is slower than bfloat16: its kernels, and its layers one by one

and for one GPU, half an hour:

    flux     flux_fp8_row, flux_int8, blocks against the whole graph, four sizes against one, flux_autoquant
    rest     sdxl_fp8 and its first step, sdxl_int8, GPU tests
    jit      steps of flux_int8, flux_autoquant and sdxl_int8, just in time and ahead of time
    more     wan_fp8, flux_fp8, flux_bf16, GPU tests of schemes, sdxl_bf16 beside sdxl_fp8
    gaps     what the sets before left: wan_fp8 with CUDA graphs, and the memory that applying flux_autoquant takes
    plain    what quantizes nothing: sdxl_bf16 beside sdxl_fp8, flux_bf16, GPU tests

On two H100s `choice` took 390 s, `search` 472 beside another build, and `scope` 492 to the end of
flux_fp8_row; the rest of it took 40 s then. `long` took 1016 s. On an H200 `rest` took 1475 s, `jit` 1162, `gaps` 714, and
`plain` 1435 without its tests, on slow processors. `kernels` and `flux` have not run as they are: records come from jobs
like these, and name their own commands.

DIR gets each job's output, its records as soon as there are any, and status.json. A job that does not end in time is
interrupted, and keeps what it has measured. Lanes have processors and compiler caches of their own, so that one does not slow
down, or warm, what another one times; but for those that share a lane's, which time nothing. Models are made first, in
build/full_size: a link into a RAM disk makes that faster.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORDS = Path("build/records")
"""Relative to ROOT, so that the commands in records are the same everywhere."""
MEASURE = (sys.executable, "tests/gpu/measure.py", "--records", str(RECORDS))
KEEP = (*MEASURE, "--keep")
"""For what a later job needs; five artifacts of FLUX.1-dev take 80 GB."""
APPLY = (sys.executable, "tests/gpu/measure.py", "--apply")
PROFILE = (sys.executable, "-m", "qcompile.cli", "profile", "--json")
LAYERS = (
    *("--model", "build/full_size/sdxl", "--set", "steps.6.quantize.scheme=autoquant"),
    *("--set", "steps.6.quantize.layers={where: {min_rows: 17, min_features: 17}}"),
    "--set",
    "steps.6.quantize.autoquant="
    "{candidates: [int8_dynamic, float8_row], min_sqnr_db: 0, budget_s: 500, on_budget: none}",
)
"""Every layer of SDXL by itself, plain and quantized, with kernels searched for."""
TEST = (sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--durations", "15")
JOBS: dict[str, tuple[str, ...]] = {
    **{family: (sys.executable, "tests/gpu/full_size.py", family, f"build/full_size/{family}")
       for family in ("flux_dev", "sdxl", "wan")},
    **{f"apply {name}": (*APPLY, name) for name in (
        "flux_autoquant", "flux_fp8_row", "flux_int8", "sdxl_int8", "whole", "four", "sdxl_unsearched")},
    **{f"jit {name}": (*MEASURE, "--jit", name) for name in ("flux_autoquant", "flux_int8", "sdxl_int8")},
    "flux_autoquant": (*KEEP, "--applied", "flux_autoquant"),
    # The record of an artifact that is there has no memory of its making.
    "apply and measure flux_autoquant": (*MEASURE, "flux_autoquant"),
    "flux_fp8_row": (*KEEP, "flux_fp8_row"),
    "sdxl_fp8": (*KEEP, "sdxl_fp8"),
    "first step": (sys.executable, "tests/gpu/first_step.py", "build/measured/sdxl_fp8"),
    **{recipe: (*MEASURE, recipe) for recipe in (
        "flux_fp8", "flux_bf16", "flux_int8", "wan_fp8", "sdxl_int8", "sdxl_bf16")},
    "scopes": (*KEEP, "--scopes"),
    "shapes": (*KEEP, "--shapes"),
    **{f"profile {name}": (*PROFILE, f"build/measured/{name}") for name in (
        "flux_fp8_row", "whole", "sdxl_unsearched")},
    "layers": (sys.executable, "-m", "qcompile.cli", "plan", "--resolve", "recipes/sdxl_int8.yaml", *LAYERS, "--json"),
    "decoder": (sys.executable, "tests/gpu/decoder.py", "flux_dev"),
    "tests": (*TEST, "tests/gpu", "--ignore=tests/gpu/test_schemes.py"),
    "tests of schemes": (*TEST, "tests/gpu/test_schemes.py"),
}  # fmt: skip


@dataclass(frozen=True)
class Lane:
    """Jobs that follow each other."""

    gpu: int
    eighths: int
    """Of all processors; 0 shares those of the lane before."""
    jobs: tuple[str, ...]


PROFILES = ("profile flux_fp8_row", "profile whole")
SETS = {
    # Nothing else is timed on a GPU while something is: what shares one is done by then, by the times that were seen.
    "choice": (
        Lane(0, 3, ("flux_dev", "apply flux_autoquant", "flux_autoquant")),
        Lane(1, 2, ("apply flux_fp8_row",)),
        Lane(1, 3, ("wan", "wan_fp8")),
    ),
    "search": (Lane(0, 8, ("flux_dev", "flux_int8")),),
    "scope": (
        Lane(0, 3, ("flux_dev", "apply whole", "scopes")),
        Lane(0, 2, ("apply four",)),
        Lane(1, 3, ("flux_fp8_row", "shapes")),
    ),
    # Tests take the second GPU while nothing is timed on it: while the whole graph is built.
    "long": (
        Lane(0, 5, ("sdxl", "sdxl_int8", "sdxl_fp8")),
        Lane(1, 3, ("flux_dev", "flux_fp8_row", "apply whole", *PROFILES, "flux_fp8", "decoder")),
        Lane(1, 0, ("tests",)),
        Lane(1, 0, ("tests of schemes",)),
    ),
    "flux": (
        Lane(
            0,
            8,
            (
                "flux_dev",
                "flux_fp8_row",
                "flux_int8",
                "apply four",
                "shapes",
                "apply whole",
                "scopes",
                "apply flux_autoquant",
                "flux_autoquant",
            ),
        ),
    ),
    "rest": (Lane(0, 8, ("sdxl", "sdxl_fp8", "first step", "sdxl_int8", "tests")),),
    "more": (
        Lane(0, 8, ("wan", "wan_fp8", "flux_dev", "flux_fp8", "flux_bf16", "tests of schemes", "sdxl", "sdxl_bf16")),
    ),
    # With steps just in time of what is searched for, which no set before had.
    "jit": (
        Lane(
            0,
            8,
            (
                "flux_dev",
                "apply flux_int8",
                "jit flux_int8",
                "apply flux_autoquant",
                "jit flux_autoquant",
                "sdxl",
                "apply sdxl_int8",
                "jit sdxl_int8",
            ),
        ),
    ),
    "gaps": (Lane(0, 8, ("wan", "wan_fp8", "flux_dev", "apply and measure flux_autoquant")),),
    "plain": (Lane(0, 8, ("sdxl", "sdxl_bf16", "flux_dev", "flux_bf16", "tests")),),
    "kernels": (
        Lane(0, 5, ("sdxl", "apply sdxl_unsearched", "profile sdxl_unsearched")),
        Lane(1, 3, ("layers",)),
    ),
}
AFTER = {
    **dict.fromkeys(("apply flux_fp8_row", "apply four", "flux_fp8_row"), ("flux_dev",)),
    "flux_autoquant": ("apply flux_fp8_row",),
    "layers": ("sdxl",),
    "scopes": ("flux_fp8_row",),
    "shapes": ("apply four",),
    **dict.fromkeys(("tests", "tests of schemes"), ("flux_fp8_row",)),
    **dict.fromkeys(PROFILES, ("tests", "tests of schemes")),
}
"""Jobs that have to be done before, where a set has them; elsewhere measure.py makes what is not there."""
STOP_SECONDS = 20
"""What a job gets to end by itself, once it was interrupted."""


@dataclass
class Run:
    """One run: what is shared by its lanes."""

    out: Path
    deadline: float
    jobs: list[str]
    started: float = field(default_factory=time.monotonic)
    done: dict[str, threading.Event] = field(init=False)
    status: dict[str, list[str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """One event for each job."""
        self.done = {job: threading.Event() for job in self.jobs}

    def note(self, job: str, what: str) -> None:
        """Write down what happened to a job, and when."""
        with self.lock:
            self.status.setdefault(job, []).append(f"{what} after {time.monotonic() - self.started:.0f} s")
            (self.out / "status.json").write_text(json.dumps(self.status, indent=1))

    def lane(self, jobs: tuple[str, ...], gpu: int, cpus: list[int]) -> None:
        """Run jobs one after the other."""
        os.sched_setaffinity(0, cpus)  # of this thread, and of the processes that it starts
        for job in jobs:
            for other in self.done.keys() & AFTER.get(job, ()):
                self.done[other].wait(max(0.0, self.deadline - time.monotonic()))
            if self.deadline - time.monotonic() > 2 * STOP_SECONDS:
                self.job(job, gpu, cpus)
            else:
                self.note(job, "no time left")
            self.done[job].set()

    def job(self, job: str, gpu: int, cpus: list[int]) -> None:
        """Run one job until it ends or time is up."""
        caches = ROOT / "build" / "caches" / f"{gpu}_{cpus[0]}"
        environment = os.environ | {
            "CUDA_VISIBLE_DEVICES": str(gpu),
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests/gpu", *_pythonpath()))),
            "PYTHONUNBUFFERED": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
            "TRITON_CACHE_DIR": str(caches / "triton"),
        }
        # Else every process compiles the sources of torch anew.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.note(job, "begins")
        with (self.out / f"{job.replace(' ', '_')}.log").open("w") as log:
            process = subprocess.Popen(
                JOBS[job],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(max(0.0, self.deadline - STOP_SECONDS - time.monotonic()))
                self.note(job, f"ends with {code}")
            except subprocess.TimeoutExpired:
                # `qcompile bench` writes its record where it is interrupted.
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                self.note(job, "out of time")
        with self.lock:
            shutil.copytree(ROOT / RECORDS, self.out / "records", dirs_exist_ok=True)


def main() -> int:
    """Run all lanes and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (ROOT / RECORDS).mkdir(parents=True, exist_ok=True)
    # A shell that starts this in the background has it ignored, and all jobs with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lanes = SETS[options.set]
    jobs = [job for lane in lanes for job in lane.jobs]
    run = Run(options.out, time.monotonic() + options.seconds, jobs)
    cpus = sorted(os.sched_getaffinity(0))
    if _count_gpus() == 1:
        run.lane(in_order(jobs), 0, cpus)
        return 0
    threads, first, mine = [], 0, cpus
    for lane in lanes:
        if lane.eighths:
            last = first + lane.eighths
            mine = cpus[len(cpus) * first // 8 : len(cpus) * last // 8] or cpus
            first = last
        threads.append(threading.Thread(target=run.lane, args=(lane.jobs, lane.gpu, mine)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


def in_order(jobs: list[str]) -> tuple[str, ...]:
    """The same jobs, in an order in which none waits for what comes later."""
    ordered = []
    while jobs:
        ready = next(job for job in jobs if not set(AFTER.get(job, ())) & set(jobs))
        jobs = [job for job in jobs if job != ready]
        ordered.append(ready)
    return tuple(ordered)


def _count_gpus() -> int:
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    return len(listed.stdout.splitlines())


def _pythonpath() -> list[str]:
    return list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


if __name__ == "__main__":
    sys.exit(main())
