"""Cold starts of the arms in turn, each in fresh processes with empty compiler caches."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from qcompile.artifact.read import Artifact
from qcompile.bench.arms import COLD_ONLY
from qcompile.bench.faults import ARM_FAULTS, reason_of
from qcompile.bench.found import Found
from qcompile.bench.probe import cold_start
from qcompile.bytecode import slow_start
from qcompile.progress import Progress, stage

COLD = (
    *("start_to_first_step", "start_to_image", "import", "wait", "load", "quantize"),
    *("first_step", "steady_step", "image"),
)
MEMORY = ("peak_gpu", "resident_gpu", "reserved_gpu", "peak_cpu", "resident_cpu")
COMPARED = ("first_step", "start_to_first_step")


def time_cold_starts(
    found: Found,
    artifact: Artifact,
    names: Sequence[str],
    against: Mapping[str, Artifact],
    device: torch.device,
    count: int,
    image: bool,
    progress: Progress,
) -> None:
    """Start every arm `count` times, for the first declared shape, in an order drawn anew each time.

    Args:
        found: what is measured goes here, also when Ctrl-C ends it.
        artifact: the artifact.
        names: arms, its own and those of others.
        against: other artifacts, by arm.
        device: where they run.
        count: fresh processes of each arm.
        image: whether each paints a whole image.
        progress: told what happens.
    """
    if count and (slow := slow_start()):
        found.notes.append(f"cold starts: {slow}")
    label = next(iter(artifact.manifest.shapes))
    runs: dict[str, list[dict[str, float]]] = {}
    starts: dict[str, tuple[str, Path]] = {}
    for name in names:
        other = against.get(name)
        if other is None:
            starts[name] = (name, artifact.folder)
        elif label in other.manifest.shapes:
            starts[name] = ("as_loaded", other.folder)
        else:
            declared = ", ".join(other.manifest.shapes)
            found.leave_out(name, f"its recipe declares {declared}, and not {label}", "cold start")
    try:
        order = random.Random(0)
        for index in range(count):
            for name, (arm, folder) in order.sample(list(starts.items()), len(starts)):
                with stage(progress, f"cold start of {name}, {index + 1} of {count}"):
                    try:
                        # One artifact's call for all, as where arms take turns.
                        result = cold_start(arm, folder, str(device), label, image, artifact.folder)
                    except ARM_FAULTS as error:
                        # As with steps: an arm that is left out has no figures of the starts before it failed.
                        found.leave_out(name, reason_of(error), "cold start")
                        del starts[name]
                        runs.pop(name, None)
                        continue
                    runs.setdefault(name, []).append(result)
    finally:
        _keep(found, runs, label, tuple(against))


def _keep(found: Found, runs: Mapping[str, list[dict[str, float]]], label: str, against: Sequence[str]) -> None:
    for name, results in runs.items():
        for metrics, title, unit in ((COLD, "cold, {}", "s"), (MEMORY, "{}", "bytes")):
            for metric in metrics:
                values = [result[metric] for result in results if metric in result]
                found.add(name, title.format(metric), values, unit, label)
    painted = max((int(result.get("images", 1)) for results in runs.values() for result in results), default=1)
    if painted > 1:
        found.notes.append(f"cold starts: an image is a call of the pipeline there, which paints {painted}")
    for metric in COMPARED:
        seconds = {name: [result[metric] for result in results if metric in result] for name, results in runs.items()}
        for mine in ("jit", *COLD_ONLY, *against):
            found.compare_two(f"cold, {metric}", mine, "aot", seconds, label)
