"""The benchmark of one artifact: arms in turn, cold starts, limits, put together as a `Record`."""

import datetime
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from qcompile import recipe as recipes
from qcompile.artifact.read import Artifact, read_artifact
from qcompile.bench.arms import Stand, arms_of, choose, make_stand
from qcompile.bench.limits import ceilings, limit_of, work_of
from qcompile.bench.probe import PROBED, cold_start
from qcompile.bench.record import Measured, Ratio, Record, measured, ratio
from qcompile.bench.timing import Interrupted, Rounds, Timed, clock_limits, time_in_turn
from qcompile.environment import current
from qcompile.errors import MachineError, PlanError, nearest
from qcompile.noise import quiet_libraries
from qcompile.planner import resolve_device
from qcompile.progress import Progress, Silent, stage
from qcompile.subject import Subject, subject_of_pipeline

RATIOS = (
    ("aot", "jit"),
    ("aot_graphs", "jit"),
    ("aot", "jit_bf16"),
    ("jit_bf16", "aot"),
    ("aot", "eager"),
    ("eager", "aot"),
    ("jit", "jit_bf16"),
    ("aot", "eager_quantized"),
    ("jit_bf16", "eager"),
    ("eager", "jit_bf16"),
)
"""(arm, over) of the ratios reported, where both were measured."""
COLD = ("start_to_first_step", "start_to_image", "import", "load", "first_step", "steady_step", "image")
MEMORY = ("peak_gpu", "resident_gpu", "peak_cpu")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    arms: tuple[str, ...] = ()
    """Empty: all that can run here."""
    against: tuple[Path, ...] = ()
    """Other artifacts."""
    rounds: int = 50
    images: int = 3
    """Whole images of each arm; 0 leaves them out."""
    cold_starts: int = 1
    """Fresh processes of each arm; 0 leaves them out."""
    cold_arms: tuple[str, ...] = ()
    """Arms that get them; empty for all that were chosen."""
    limits: bool = True
    usd_per_hour: float | None = None
    """Price of the machine, for costs."""
    device: str | None = None
    built: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the stages of the artifact's making, where it was made just now."""
    built_peak_gpu_bytes: int | None = None
    """GPU memory that its making took at most."""


@dataclass
class _Found:
    measured: list[Measured] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    step_ms: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Every timed step, by shape label and arm."""
    interrupted: bool = False


@quiet_libraries()
def bench(path: str | Path, options: Options, command: str, progress: Progress | None = None) -> tuple[Record, bool]:
    """Measure an artifact beside its original.

    Args:
        path: folder of the artifact.
        options: what to measure.
        command: what the user typed, for the record.
        progress: told what happens.

    Returns:
        The record, and whether the run was interrupted and holds less than was asked for.

    Raises:
        ArtifactError, PlanError, MachineError, ModelError: the artifact is broken, an arm does not exist or can't run
            here, the original can't be found.
    """
    progress = progress or Silent()
    artifact = read_artifact(Path(path).expanduser())
    others = {Path(other).name: read_artifact(Path(other).expanduser()) for other in options.against}
    device = resolve_device(options.device or artifact.manifest.environment.device)
    names, absent = choose(options.arms, artifact, device)
    for name in options.cold_arms:
        if name not in names or name not in PROBED:
            allowed = [known for known in names if known in PROBED]
            raise PlanError(f"--cold-arms {name}: not among the arms of this run; {nearest(name, allowed)}.")
    found = _Found(absent=dict(absent))
    try:
        if options.cold_starts:
            _cold_starts(found, artifact, options.cold_arms or names, device, options, progress)
        with stage(progress, "load the arms"):
            stand = make_stand(artifact, others, names, device)
        for label in stand.calls:
            _steps(found, stand, names, list(others), label, options, progress)
        if options.images:
            _images(found, stand, names, options, progress)
        if options.limits:
            _limits(found, stand, progress)
    except Interrupted:
        found.interrupted = True
    except KeyboardInterrupt:
        found.interrupted = True
    if found.interrupted:
        found.notes.append("interrupted: holds what was measured by then")
    return _record(found, artifact, command, device, options), found.interrupted


def _steps(
    found: _Found,
    stand: Stand,
    names: Sequence[str],
    against: Sequence[str],
    label: str,
    options: Options,
    progress: Progress,
) -> None:
    try:
        rounds = time_in_turn(arms_of(stand, names, against, label), options.rounds, 3, stand.device, progress)
    except Interrupted as error:
        _keep_steps(found, error.rounds, label, stand, options, against)
        raise
    _keep_steps(found, rounds, label, stand, options, against)
    held_back = clock_limits()
    if held_back:
        found.notes.append(f"the GPU's clocks were held back after the steps of {label}: {held_back}")


def _keep_steps(
    found: _Found, rounds: Rounds, label: str, stand: Stand, options: Options, against: Sequence[str]
) -> None:
    found.absent |= rounds.absent
    found.step_ms[label] = {name: values for name, values in rounds.ms.items() if values}
    for name, values in found.step_ms[label].items():
        found.measured.append(measured(name, "step", values, "ms", label))
    pairs = [*RATIOS, *(("aot", name) for name in against)]
    for mine, theirs in pairs:
        above, below = rounds.ms.get(mine), rounds.ms.get(theirs)
        if above and below:
            found.ratios.append(ratio(mine, theirs, "step", above, below, label))


def _images(found: _Found, stand: Stand, names: Sequence[str], options: Options, progress: Progress) -> None:
    """Whole images, and the share of each component in them."""
    recipe = recipes.parse(stand.artifact.recipe_text)
    for label in stand.calls:
        arms, batch = {}, stand.artifact.manifest.shapes[label].batch
        for name, arm in arms_of(stand, names, (), label).items():
            if name == "aot_graphs":
                continue  # a graph holds one step's inputs
            kind = "original" if name in ("eager", "jit_bf16") else "artifact"
            subject = subject_of_pipeline(recipe, stand.pipelines[kind])
            arms[name] = Timed(partial(_paint, subject, label), arm.around)
        rounds = time_in_turn(arms, options.images, 1, stand.device, progress)
        found.absent |= rounds.absent
        for name, values in rounds.ms.items():
            if not values:
                continue
            found.measured.append(measured(name, "image", [ms / batch for ms in values], "ms", label))
            rate = [1e3 * batch / ms for ms in values]
            found.measured.append(measured(name, "images", rate, "image/s", label))
            if options.usd_per_hour:
                costs = [options.usd_per_hour / 3600 * 1000 / each for each in rate]
                found.measured.append(measured(name, "cost", costs, "USD/1000 images", label))
        for mine, theirs in RATIOS:
            above, below = rounds.ms.get(mine), rounds.ms.get(theirs)
            if above and below:
                found.ratios.append(ratio(mine, theirs, "image", above, below, label))
        for name in ("eager", "aot"):
            if name in arms:
                _components(found, stand, name, arms[name], label)


def _paint(subject: Subject, label: str) -> None:
    subject.pipeline(**subject.arguments(label))


def _components(found: _Found, stand: Stand, name: str, arm: Timed, label: str) -> None:
    """Milliseconds of each component in one image, the device waited for around every call of it."""
    pipeline = stand.pipelines["original" if name == "eager" else "artifact"]
    spent: dict[str, float] = {}
    starts: dict[str, float] = {}

    def wait() -> float:
        if stand.device.type == "cuda":
            torch.cuda.synchronize(stand.device)
        return time.perf_counter()

    hooks = []
    parts = {key: part for key, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    if hasattr(pipeline, "vae") and hasattr(pipeline.vae, "decoder"):
        parts = {key: part for key, part in parts.items() if key != "vae"} | {"vae": pipeline.vae.decoder}
    for key, part in parts.items():
        hooks.append(part.register_forward_pre_hook(lambda *_, key=key: starts.__setitem__(key, wait())))
        hooks.append(
            part.register_forward_hook(
                lambda *_, key=key: spent.__setitem__(key, spent.get(key, 0.0) + wait() - starts[key])
            )
        )
    try:
        with torch.no_grad(), arm.around():
            arm.call()
    finally:
        for hook in hooks:
            hook.remove()
    for key, seconds in spent.items():
        found.measured.append(measured(name, f"image, {key}", [seconds * 1e3], "ms", label))


def _cold_starts(
    found: _Found, artifact: Artifact, names: Sequence[str], device: torch.device, options: Options, progress: Progress
) -> None:
    label = next(iter(artifact.manifest.shapes))
    runs: dict[str, list[dict[str, float]]] = {}
    for name in names:
        if name not in PROBED:
            continue
        for index in range(options.cold_starts):
            with stage(progress, f"cold start of {name}, {index + 1} of {options.cold_starts}"):
                try:
                    result = cold_start(name, artifact.folder, str(device), label, options.images > 0)
                except MachineError as error:
                    found.absent[name] = str(error)
                    break
                runs.setdefault(name, []).append(result)
    for name, results in runs.items():
        for metric in COLD:
            if metric in results[0]:
                values = [result[metric] for result in results]
                found.measured.append(measured(name, f"cold, {metric}", values, "s", label))
        for metric in MEMORY:
            if metric in results[0]:
                values = [result[metric] for result in results]
                found.measured.append(measured(name, metric, values, "bytes", label))
    for metric in ("first_step", "start_to_first_step"):
        if {"jit", "aot"} <= runs.keys():
            above, below = ([result[metric] for result in runs[name]] for name in ("jit", "aot"))
            whole = min(len(above), len(below))
            found.ratios.append(ratio("jit", "aot", f"cold, {metric}", above[:whole], below[:whole], label))


def _limits(found: _Found, stand: Stand, progress: Progress) -> None:
    dtype = getattr(torch, stand.artifact.manifest.model.dtype)
    with stage(progress, "ceilings of the machine"), torch.no_grad():
        for name, value in ceilings(stand.device, dtype).items():
            unit = "GB/s" if name == "copy" else "TFLOP/s"
            found.measured.append(measured("machine", name, [value], unit))
    name = "original" if "original" in stand.pipelines else "artifact"
    with stage(progress, "limit of a step"), torch.no_grad():
        for label, call in stand.calls.items():
            limit = limit_of(work_of(stand.model(name), call), stand.device, dtype)
            found.measured.append(measured("machine", "limit", [limit.total_ms], "ms", label))
            found.measured.append(measured("machine", "limit, products", [limit.product_ms], "ms", label))
            found.measured.append(measured("machine", "limit, attention", [limit.attention_ms], "ms", label))
            for arm, steps in found.step_ms.get(label, {}).items():
                found.ratios.append(ratio("limit", arm, "step", [limit.total_ms] * len(steps), steps, label))


def _record(found: _Found, artifact: Artifact, command: str, device: torch.device, options: Options) -> Record:
    manifest = artifact.manifest
    sizes: Mapping[str, int] = {name: record.bytes for name, record in manifest.files.items()}
    for package in manifest.packages:
        found.measured.append(
            measured("aot", f"build, {package.block}", [package.build_seconds], "s", package.shapes[0])
        )
    for title, seconds in options.built.items():
        found.measured.append(measured("build", title, [seconds], "s"))
    bytes_after = sum(item.bytes_after for item in manifest.components.values())
    if options.built_peak_gpu_bytes:
        peak = float(options.built_peak_gpu_bytes)
        found.measured.append(measured("build", "peak_gpu", [peak], "bytes"))
        found.ratios.append(ratio("build", "weights", "peak_gpu", [peak], [float(bytes_after)]))
    return Record(
        command=command,
        date=datetime.date.today().isoformat(),
        recipe=manifest.recipe.name,
        recipe_version=manifest.recipe.version,
        recipe_sha256=manifest.recipe.sha256,
        model=manifest.model.id,
        environment=current(str(device)),
        cpus=os.cpu_count() or 1,
        bytes_before=sum(item.bytes_before for item in manifest.components.values()),
        bytes_after=bytes_after,
        package_bytes=sum(sizes[package.file] for package in manifest.packages),
        measured=tuple(found.measured),
        ratios=tuple(found.ratios),
        absent=found.absent,
        notes=tuple(found.notes),
    )
