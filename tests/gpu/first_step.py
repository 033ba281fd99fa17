"""What the first step of a loaded artifact takes, and which operators outside of its packages it goes to.

    PYTHONPATH=.:tests python tests/gpu/first_step.py build/measured/sdxl_fp8

Prints seconds of the first steps, and of the first one's operators, by name, milliseconds of the processor in all their
calls and in the longest. The operators are those of a process of its own, since the profiler slows a step down.
"""

import argparse
import subprocess
import sys
import time
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

import qcompile
from qcompile import recipe as recipes
from qcompile.artifact.read import read_artifact
from qcompile.subject import subject_of_pipeline

STEPS, OPERATORS = 4, 15


def main() -> int:
    """Measure twice, without and with the profiler."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact")
    parser.add_argument("--profiled", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    pipeline = qcompile.load(options.artifact)
    subject = subject_of_pipeline(recipes.parse(read_artifact(options.artifact).recipe_text), pipeline)
    step = partial(subject.components[subject.denoiser], **next(iter(subject.calls().values())))
    with torch.no_grad():
        if options.profiled:
            _print_operators(step)
            return 0
        for index in range(STEPS):
            begun = time.perf_counter()
            step()
            torch.cuda.synchronize()
            print(f"step {index}: {time.perf_counter() - begun:.4f} s", flush=True)
    return subprocess.run([sys.executable, __file__, options.artifact, "--profiled"], check=False).returncode


def _print_operators(step: "partial[object]") -> None:
    with profile(activities=[ProfilerActivity.CPU]):
        torch.ones(1)  # what the profiler itself does for the first time
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        step()
        torch.cuda.synchronize()
    longest: dict[str, float] = {}
    for event in recorded.events():
        longest[event.name] = max(longest.get(event.name, 0.0), event.self_cpu_time_total)
    averages = sorted(recorded.key_averages(), key=lambda item: item.self_cpu_time_total, reverse=True)
    for item in averages[:OPERATORS]:
        print(f"{item.self_cpu_time_total / 1e3:8.1f} {longest[item.key] / 1e3:8.1f} ms {item.count:5} x {item.key}")


if __name__ == "__main__":
    sys.exit(main())
