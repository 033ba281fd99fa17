"""Figures a person can make again: how fast commands, builds, loads and steps are, and whether pictures stay as good.

Run `python -m qcompile.benchmark` with nothing else running. It holds the figures of one artifact against the project's
targets; `qcompile bench` measures steps and starts for it, and any other artifact. Commands are timed as whole
processes.
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qcompile.figures import Figure, figure, write_record
from qcompile.noise import quiet_imports

PARTS = ("commands", "build", "load", "steps", "quality")
"""What can be measured; `load`, `steps` and `quality` need the artifact that `build` leaves."""


STEP_BOUNDS: dict[str, float | None] = {"jit": 1.02, "eager_quantized": 1.0, "eager": 1.0, "jit_bf16": None}
"""Arms of `qcompile bench` that the artifact's packages (`aot`) are held against, and the bound on the ratio."""


def command_figures(recipe: Path, runs: int) -> list[Figure]:
    """Seconds of commands as whole processes, imports and all."""
    bounds = {"--help": 0.4, "validate": 1.0, "plan": 5.0}
    found = []
    for command, bound in bounds.items():
        arguments = [command] if command == "--help" else [command, str(recipe)]
        seconds = [_run(arguments) for _ in range(runs + 1)][1:]  # the first run reads files from the disk
        found.append(figure(f"qcompile {command}", seconds, "s", at_most=bound))
    return found


def build_figures(recipe: Path, artifact: Path) -> list[Figure]:
    """Seconds of `apply` with an empty and with a filled compiler cache; leaves the artifact at `artifact`."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {"TORCHINDUCTOR_CACHE_DIR": cache}
        arguments = ["apply", str(recipe), "--out", str(artifact), "--overwrite"]
        cold = _run(arguments, environment)
        warm = _run(arguments, environment)
    return [
        figure("apply, cold compiler cache", [cold], "s", at_most=150),
        figure("apply, warm compiler cache", [warm], "s", at_most=40),
    ]


def load_figures(artifact: Path, runs: int) -> list[Figure]:
    """Seconds of `load` after imports, first step against a steady one, bytes of packages for one shape."""
    from qcompile.artifact.read import read_artifact
    from qcompile.bench.probe import cold_start

    manifest = read_artifact(artifact).manifest
    shape = next(iter(manifest.shapes))
    starts = [cold_start("aot", artifact, manifest.environment.device, shape, image=False) for _ in range(runs)]
    size = sum(manifest.files[package.file].bytes for package in manifest.packages if shape in package.shapes)
    return [
        figure("load, after imports", [start["load"] for start in starts], "s", at_most=1.5),
        figure(
            "first step / steady step",
            [start["first_step"] / start["steady_step"] for start in starts],
            "x",
            at_most=2.0,
        ),
        figure("packages for one shape", [size / 1e6], "MB", at_most=8.0),
    ]


def step_figures(artifact: Path, rounds: int) -> list[Figure]:
    """Milliseconds of one denoising step for every arm, and ratios of the AoT artifact to each."""
    from qcompile.bench.run import Options, bench

    arms = tuple(STEP_BOUNDS)
    record, _ = bench(
        artifact, Options(("aot", *arms), rounds=rounds, images=0, cold_starts=0, limits=False), "benchmark"
    )
    found = []
    for arm in ("aot", *arms):
        step = record.find(arm, "step")
        assert step is not None, f"{arm} gave nothing: {record.absent}"
        found.append(Figure(f"step, {arm}", step.value, "ms", step.low, step.high, step.count))
    for arm, bound in STEP_BOUNDS.items():
        ratio = record.ratio("aot", arm)
        assert ratio is not None
        found.append(Figure(f"step, aot / {arm}", ratio.value, "x", ratio.low, ratio.high, ratio.count, bound))
    return found


def _run(arguments: list[str], environment: Mapping[str, str] | None = None) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "qcompile.cli", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )
    return time.perf_counter() - started


def quality_figures(artifact: Path, count: int) -> list[Figure]:
    """Scores of the embedded model's artifact and its original on held-out captions, and what the artifact loses."""
    import torch

    from qcompile.artifact.read import read_artifact
    from qcompile.builtin.evaluate import evaluate
    from qcompile.opening import load
    from qcompile.pipeline import load_pipeline
    from qcompile.source import find_folder

    model = read_artifact(artifact).manifest.model
    original = load_pipeline(find_folder(model.id, model.revision), getattr(torch, model.dtype), torch.device("cpu"))
    arms = {"original": original, "artifact": load(artifact, device="cpu")}
    for arm in arms.values():
        arm.set_progress_bar_config(disable=True)
    # One picture a call, since that is what the artifact has packages for; the original is given the same.
    totals = {name: vars(evaluate(arm, count, batch=1)) for name, arm in arms.items()}
    found = []
    for score in ("background_colour", "object_colour", "shape", "relation"):
        for name in arms:
            found.append(figure(f"{score.replace('_', ' ')}, {name}", [100 * totals[name][score]], "%"))
        lost = 100 * (totals["original"][score] - totals["artifact"][score])
        found.append(figure(f"{score.replace('_', ' ')}, lost", [lost], "points", at_most=1.0))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, return 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(prog="python -m qcompile.benchmark", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; by default all")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/flux_mini_int8.yaml"))
    parser.add_argument("--artifact", type=Path, default=Path("build/bench/flux_mini_int8"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--count", type=int, default=200, help="captions of the quality part")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the figures as JSON, with the environment")
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]!r}; there is {', '.join(PARTS)}")
    measures: dict[str, Callable[[], list[Figure]]] = {
        "commands": lambda: command_figures(options.recipe, options.runs),
        "build": lambda: build_figures(options.recipe, options.artifact),
        "load": lambda: load_figures(options.artifact, options.runs),
        "steps": lambda: step_figures(options.artifact, options.rounds),
        "quality": lambda: quality_figures(options.artifact, options.count),
    }
    found: list[Figure] = []
    for part in options.parts or PARTS:
        for item in _quietly(measures[part]):
            verdict = "" if not item.bound else "holds" if item.holds else "MISSED"
            spread = f"{item.low:.3g} to {item.high:.3g}, n={item.count}"
            print(f"{item.name:52} {item.value:9.3f} {item.unit:6} {spread:28} {item.bound:14} {verdict}", flush=True)
            found.append(item)
    if options.record:
        write_record(options.record, found, _about(arguments))
    return 0 if all(item.holds for item in found) else 1


def _quietly(measure: Callable[[], list[Figure]]) -> list[Figure]:
    with quiet_imports():
        from qcompile.noise import quiet_libraries

        with quiet_libraries():
            return measure()


def _about(arguments: list[str] | None) -> dict[str, Any]:
    from qcompile.environment import current

    words = ["python", "-m", "qcompile.benchmark", *(sys.argv[1:] if arguments is None else arguments)]
    environment = asdict(current("cpu")) | {"cpus": os.cpu_count()}
    return {"command": " ".join(words), "date": datetime.date.today().isoformat(), "environment": environment}


if __name__ == "__main__":
    sys.exit(main())
