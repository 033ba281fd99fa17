"""The benchmark of one artifact: arms in turn, cold starts, limits, put together as a `Record`."""

import datetime
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from qcompile.artifact.read import Artifact, read_artifact
from qcompile.bench.against import check_comparable, name_against
from qcompile.bench.arms import (
    ARMS,
    COLD_ONLY,
    OF_ORIGINAL,
    Stand,
    arms_of,
    choose,
    make_stand,
    refuse_impossible,
    refuse_unknown,
)
from qcompile.bench.builds import add_builds, add_stages
from qcompile.bench.clocks import noted
from qcompile.bench.disk import add_bytes
from qcompile.bench.faults import ARM_FAULTS, reason_of, release_memory
from qcompile.bench.found import Found
from qcompile.bench.images import time_images
from qcompile.bench.limits import ceilings, limit_of
from qcompile.bench.record import Record, check_target, place_of
from qcompile.bench.starts import time_cold_starts
from qcompile.bench.timing import Rounds, time_in_turn
from qcompile.bench.work import work_of
from qcompile.devices import resolve_device
from qcompile.environment import current, processor
from qcompile.errors import PlanError, nearest
from qcompile.noise import quiet_libraries
from qcompile.progress import Progress, Silent, stage
from qcompile.recipe import Recipe


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
    """Arms that get them, those of COLD_ONLY among them; empty for all that were chosen."""
    limits: bool = True
    usd_per_hour: float | None = None
    """Price of the machine, for costs."""
    device: str | None = None
    built: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the stages of the artifact's making, where it was made just now."""
    built_peak_gpu_bytes: Mapping[str, int] = field(default_factory=dict)
    """GPU memory that each of these stages took at most; empty where it was made on no GPU."""
    record: Path | None = None
    """File or folder that the record will be written to: refused before anything is measured where it can't."""
    notes: tuple[str, ...] = ()
    """What the user wants readers of the record to know."""


def check(options: Options, recipe: Recipe, device: torch.device) -> None:
    """Refuse options that are wrong for any artifact of a recipe, before one is made.

    Args:
        options: what to measure.
        recipe: what the artifact will be made from.
        device: where it will run.

    Raises:
        PlanError, ArtifactError: an arm does not exist, another artifact is broken, no record can be written there.
        MachineError: an arm can't run there.
    """
    refuse_unknown(options.arms)
    refuse_impossible(options.arms, recipe, device)
    others = name_against(options.against)
    for folder in others.values():
        read_artifact(folder)
    _refuse_cold(options.cold_arms, (*(options.arms or ARMS), *COLD_ONLY, *others))
    _check_place(options, recipe.name, device)


def _check_place(options: Options, recipe: str, device: torch.device) -> None:
    if options.record:
        check_target(place_of(options.record, recipe, current(str(device)), processor()))


def _refuse_cold(names: Sequence[str], arms: Sequence[str]) -> None:
    for name in names:
        if name not in arms:
            raise PlanError(f"--cold-arms {name}: not among the arms of this run; {nearest(name, arms)}.")


@quiet_libraries()
def bench(
    path: str | Path,
    options: Options,
    command: str,
    progress: Progress | None = None,
    broken: Callable[[Record], None] = lambda _: None,
) -> tuple[Record, bool]:
    """Measure an artifact beside its original.

    Args:
        path: folder of the artifact.
        options: what to measure.
        command: what the user typed, for the record.
        progress: told what happens.
        broken: given the record of what was measured where an error ends the run, which is raised after that.

    Returns:
        The record, and whether the run was interrupted and holds less than was asked for. Arms that failed for a reason
        of their own are in the record's `absent`.

    Raises:
        ArtifactError, PlanError, MachineError: the artifact is broken, an arm does not exist or can't run here, another
            artifact can't be compared with it.
    """
    progress = progress or Silent()
    artifact = read_artifact(Path(path).expanduser())
    others = {name: read_artifact(folder) for name, folder in name_against(options.against).items()}
    device = resolve_device(options.device or artifact.manifest.environment.device)
    _check_place(options, artifact.manifest.recipe.name, device)
    names, absent = choose(options.arms, artifact, device)
    arms = (*names, *others)
    _refuse_cold(options.cold_arms, (*arms, *COLD_ONLY))
    found = Found(absent=dict(absent), notes=list(options.notes))
    for name, other in others.items():
        found.notes += check_comparable(name, other, artifact)
    # Events, graphs and torch's own timer go to the current GPU.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        ended = False
        try:
            _measure(found, artifact, others, names, device, options, progress)
            ended = True
        except KeyboardInterrupt:
            ended = found.interrupted = True
            found.notes.append("interrupted: holds what was measured by then")
        finally:
            if not ended:
                # Whatever it is, a bug of ours too: hours of measuring may be behind it.
                error = sys.exception()
                found.notes.append(f"ended by {type(error).__name__} ({error}): holds what was measured by then")
                broken(_record(found, artifact, command, device, options))
    return _record(found, artifact, command, device, options), found.interrupted


def _measure(
    found: Found,
    artifact: Artifact,
    others: Mapping[str, Artifact],
    names: Sequence[str],
    device: torch.device,
    options: Options,
    progress: Progress,
) -> None:
    add_bytes(found, artifact, others, names)
    if options.cold_starts:
        image, chosen = options.images > 0, options.cold_arms or _cold_arms(options, names, others)
        time_cold_starts(found, artifact, chosen, others, device, options.cold_starts, image, progress)
    with stage(progress, "load the arms"):
        stand = make_stand(found, artifact, others, names, device)
    for label in stand.calls:
        _steps(found, stand, names, tuple(others), label, options, progress)
    if options.images:
        time_images(found, stand, names, tuple(others), options.images, options.usd_per_hour, progress)
    if options.limits:
        with noted(device, "ceilings and limits", found.notes):
            _limits(found, stand, progress)


def _cold_arms(options: Options, names: Sequence[str], others: Iterable[str]) -> tuple[str, ...]:
    """Where nobody chose arms, how people start without an artifact is among them."""
    without = COLD_ONLY if not options.arms and {"jit", *OF_ORIGINAL} <= set(names) else ()
    return (*names, *without, *others)


def _steps(
    found: Found,
    stand: Stand,
    names: Sequence[str],
    against: Sequence[str],
    label: str,
    options: Options,
    progress: Progress,
) -> None:
    arms = arms_of(found, stand, (*names, *against), label)
    watch = partial(noted, stand.device, f"steps of {label}", found.notes)
    rounds = Rounds()
    try:
        time_in_turn(arms, options.rounds, 3, stand.device, progress, watch, rounds)
    finally:
        _keep_steps(found, rounds, label, against)


def _keep_steps(found: Found, rounds: Rounds, label: str, against: Sequence[str]) -> None:
    for name, reason in rounds.absent.items():
        found.leave_out(name, reason, f"step at {label}")
    found.step_ms[label] = {name: values for name, values in rounds.ms.items() if values}
    for name, values in rounds.ms.items():
        found.add(name, "step", values, "ms", label)
        # Also without a whole round: it may have been ten minutes of compilation.
        found.add(name, "first call", [rounds.first_ms[name]] if name in rounds.first_ms else [], "ms", label)
    found.compare("step", found.step_ms[label], label, against)


def _limits(found: Found, stand: Stand, progress: Progress) -> None:
    dtype = getattr(torch, stand.artifact.manifest.model.dtype)
    reason = None
    with stage(progress, "ceilings of the machine"), torch.no_grad():
        try:
            for name, value in ceilings(stand.device, dtype).items():
                found.add("machine", name, [value], "GB/s" if name == "copy" else "TFLOP/s")
        except ARM_FAULTS as error:
            reason = reason_of(error)
    if reason:
        release_memory()
        found.leave_out("machine", reason, "ceilings")
    with stage(progress, "limit of a step"), torch.no_grad():
        for label in stand.calls:
            reason = None
            try:
                _limit(found, stand, label, dtype)
            except ARM_FAULTS as error:
                reason = reason_of(error)
            if reason:
                release_memory()
                found.leave_out("machine", reason, f"limit at {label}")


def _limit(found: Found, stand: Stand, label: str, dtype: torch.dtype) -> None:
    # Of the original where it is there: its pipeline comes first.
    model = getattr(next(iter(stand.pipelines.values())), stand.denoiser)
    limit = limit_of(work_of(model, stand.calls[label]), stand.device, dtype)
    found.add("machine", "limit", [limit.total_ms], "ms", label)
    found.add("machine", "limit, products", [limit.product_ms], "ms", label)
    found.add("machine", "limit, convolutions", [limit.convolution_ms], "ms", label)
    found.add("machine", "limit, attention", [limit.attention_ms], "ms", label)
    for arm, steps in found.step_ms.get(label, {}).items():
        found.compare_two("step", "limit", arm, {"limit": [limit.total_ms] * len(steps), arm: steps}, label)
        if statistics.median(steps) < limit.total_ms:
            found.notes.append(
                f"{arm}, step at {label}: below the limit, so a kernel of its own beats the libraries', or it does less"
            )


def _record(found: Found, artifact: Artifact, command: str, device: torch.device, options: Options) -> Record:
    manifest = artifact.manifest
    add_builds(found, manifest.packages)
    add_stages(found, options.built, options.built_peak_gpu_bytes, artifact.weight_bytes)
    return Record(
        command=command,
        date=datetime.date.today().isoformat(),
        recipe=manifest.recipe.name,
        recipe_version=manifest.recipe.version,
        recipe_sha256=manifest.recipe.sha256,
        model=manifest.model.id,
        environment=current(str(device)),
        processor=processor(),
        cpus=os.cpu_count() or 1,
        bytes_before=artifact.original_weight_bytes,
        bytes_after=artifact.weight_bytes,
        package_bytes=artifact.package_bytes,
        measured=tuple(found.measured),
        ratios=tuple(found.ratios),
        absent=found.absent,
        notes=tuple(found.notes),
    )
