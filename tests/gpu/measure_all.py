"""Run everything that RECORD.md asks for at once, as far as a number of seconds goes: one lane of jobs for each GPU.

    PYTHONPATH=tests python tests/gpu/measure_all.py --seconds 1200 --out DIR [--only JOB …]

DIR gets each job's output, its records as soon as there are any, and status.json. A job that does not end in time is asked
to stop, and keeps what it has measured. Lanes have processors and compiler caches of their own, so that one does not slow
down, or warm, what another one times. Two GPUs, 32 processors and 256 GB of memory should do for all of it in 20 minutes, by
the times that single jobs took; with one GPU the lanes follow each other. Models are made first, in build/full_size: a link into a RAM disk makes that faster.
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
WHOLE = "import measure as m; m.applied('flux_fp8_row', 'full', m.ONE_SIZE, m.FEW_STEPS, m.WHOLE)"
JOBS: dict[str, tuple[str, ...]] = {
    **{family: (sys.executable, "tests/gpu/full_size.py", family, f"build/full_size/{family}")
       for family in ("flux_dev", "sdxl", "wan")},
    **{recipe: (*MEASURE, recipe) for recipe in ("flux_int8", "wan_fp8", "sdxl_int8")},
    # Kept: artifacts that later jobs hold theirs against. All of them would not fit on the disk.
    **{recipe: (*MEASURE, "--keep", recipe) for recipe in ("flux_fp8_row", "flux_fp8", "flux_autoquant")},
    "imports": (sys.executable, "-X", "importtime", "-c", "import qcompile.loader; from diffusers import FluxPipeline"),
    "decoder": (sys.executable, "tests/gpu/decoder.py", "flux_dev"),
    "whole": (sys.executable, "-c", WHOLE),
    "scopes": (*MEASURE, "--keep", "--scopes"),
    "shapes": (*MEASURE, "--keep", "--shapes"),
    "tests": (sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-q"),
}  # fmt: skip
LANES = (
    ("flux_dev", "flux_autoquant", "scopes", "wan_fp8", "flux_fp8", "flux_fp8_row"),
    ("wan", "flux_int8", "sdxl_int8", "decoder"),
    # Nothing here is timed to the millisecond: it shares the second GPU.
    ("imports", "sdxl", "whole", "shapes", "tests"),
)
AFTER = {
    **dict.fromkeys(("flux_autoquant", "flux_int8", "whole"), ("flux_dev",)),
    "wan_fp8": ("wan",),
    "sdxl_int8": ("sdxl",),
    "scopes": ("whole",),
    # Both need the artifact that is made for flux_autoquant; and flux_int8 is timed in peace.
    "shapes": ("flux_autoquant", "flux_int8"),
    # It makes that artifact anew.
    "flux_fp8_row": ("shapes",),
}
"""Jobs of other lanes that have to be done before."""
STOP_SECONDS = 15


@dataclass
class Run:
    """One run: what is shared by its lanes."""

    out: Path
    deadline: float
    started: float = field(default_factory=time.monotonic)
    done: dict[str, threading.Event] = field(default_factory=lambda: {name: threading.Event() for name in JOBS})
    status: dict[str, list[str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, job: str, what: str) -> None:
        """Write down what happened to a job, and when."""
        with self.lock:
            self.status.setdefault(job, []).append(f"{what} after {time.monotonic() - self.started:.0f} s")
            (self.out / "status.json").write_text(json.dumps(self.status, indent=1))

    def lane(self, jobs: tuple[str, ...], gpu: int, cpus: list[int]) -> None:
        """Run jobs one after the other."""
        os.sched_setaffinity(0, cpus)  # of this thread, and of the processes that it starts
        for job in jobs:
            for other in AFTER.get(job, ()):
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
        with (self.out / f"{job}.log").open("w") as log:
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
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=JOBS, help="leave everything else out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (ROOT / RECORDS).mkdir(parents=True, exist_ok=True)
    lanes = [tuple(job for job in lane if job in (options.only or JOBS)) for lane in LANES]
    run = Run(options.out, time.monotonic() + options.seconds)
    for job in JOBS.keys() - {job for lane in lanes for job in lane}:
        run.done[job].set()
    gpus, cpus = _count_gpus(), sorted(os.sched_getaffinity(0))
    if gpus == 1:
        run.lane(in_order([job for lane in lanes for job in lane]), 0, cpus)
        return 0
    # Three eighths of the processors for each lane that is timed.
    cut = [0, len(cpus) * 3 // 8, len(cpus) * 6 // 8, len(cpus)]
    threads = [
        threading.Thread(target=run.lane, args=(jobs, gpu, cpus[cut[index] : cut[index + 1]]))
        for index, (jobs, gpu) in enumerate(zip(lanes, (0, 1, 1), strict=True))
    ]
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
