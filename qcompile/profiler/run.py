"""A whole profile: kernels, graph breaks, recompilations, synchronizations, and what to do about them."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qcompile import recipe as recipes
from qcompile.aot.toolchain import check_toolchain
from qcompile.errors import ModelError
from qcompile.noise import quiet_libraries
from qcompile.opening import open_artifact
from qcompile.profiler.advice import for_frequencies, for_groups
from qcompile.profiler.arms import Mode, ProfiledArm, arm_of_artifact, arm_of_recipe
from qcompile.profiler.breaks import Tracing, trace
from qcompile.profiler.kernels import COMPILED
from qcompile.profiler.record import Recording, check_trace, packages_marked, record
from qcompile.profiler.syncs import Synchronization, synchronizations
from qcompile.progress import Progress, Silent, stage
from qcompile.subject import quiet

AHEAD_OF_TIME = (
    "the recipe compiles ahead of time; what is listed here as a recompilation is a package of its own there, and a "
    "graph break is an error of `qcompile apply`"
)
RECIPE_SUFFIXES = (".yaml", ".yml")
NOT_COMPILED = "nothing is compiled here, so there are no graphs to break and no guards to fail"
PACKAGES = (
    "packages hold one whole graph for each declared shape: nothing can break or be compiled anew at run time, and a "
    "call with another shape is an error"
)
NO_GPU = "there is no GPU here; on a CPU Python waits for every operator, so there is nothing to see"
HIDDEN = (
    "code of packages for a CPU does not tell the profiler what it does inside. `qcompile profile RECIPE` compiles the "
    "same with names and splits it up, as does an artifact applied with the step inductor: {options: "
    "{cpp.enable_kernel_profile: true}}; --eager shows the same weights operator by operator"
)


@dataclass(frozen=True)
class Profile:
    """What one denoising step does with its time."""

    label: str
    """The recipe's name, or the original's."""
    mode: Mode
    device: str
    shape: str
    """Label of the shape that was run."""
    recording: Recording
    tracing: Tracing | None
    """None where nothing goes through torch.compile."""
    synchronizations: tuple[Synchronization, ...] | None
    """Of one whole call of the pipeline; None where they can't be seen."""
    num_pipeline_steps: int
    """Denoising steps of that call."""
    notes: tuple[str, ...]
    """What can't be seen, and why."""
    advice: tuple[str, ...]
    trace: Path | None

    @property
    def outside_ms(self) -> float:
        """Milliseconds of one step outside of kernels."""
        return self.recording.outside_ms(self.device.startswith("cuda"))


@quiet_libraries()
def profile(
    what: str | Path,
    *,
    num_steps: int = 5,
    trace_file: Path | None = None,
    overwrite: bool = False,
    original: bool = False,
    eager: bool = False,
    device: str | None = None,
    overrides: Sequence[str] = (),
    model: str | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Profile the denoiser of an artifact, or of a recipe that is carried out in memory for it.

    Args:
        what: an artifact's folder or Hub id, or a recipe file.
        num_steps: denoising steps that are measured.
        trace_file: where to write a trace that ui.perfetto.dev and chrome://tracing read.
        overwrite: replace a trace that is there.
        original: profile the model as it came, compiled as the recipe compiles.
        eager: compile nothing and open no package.
        device: `cpu`, `cuda` or `cuda:N`.
        overrides: of a recipe, as `qcompile.recipe.read` takes them.
        model: in place of the recipe's.
        progress: told what happens.

    Raises:
        ArtifactError: the trace can't be written where it should be, or the artifact is broken.
        RecipeError, PlanError, ModelError: as `plan` and `load` do.
        MachineError: no working compiler, or a device that is not there.
    """
    progress = progress or Silent()
    if trace_file is not None:
        check_trace(trace_file, overwrite)
    arm = _arm(what, original, eager, device, overrides, model, progress)
    tracing = None
    if arm.compiled:
        with stage(progress, "graph breaks and recompilations"):
            tracing = _traced(arm)
        with stage(progress, "check the compiler"):
            check_toolchain()
        for compiled in arm.compiled:
            compiled.install()
    title = "compile and record" if arm.compiled else "record"
    with stage(progress, f"{title} {num_steps} steps"), packages_marked(arm.denoiser):
        recording = record(arm.step(), num_steps, arm.device, trace_file)
    on_gpu = arm.device.type == "cuda"
    found, num_pipeline_steps = None, 0
    if on_gpu:
        with stage(progress, "synchronizations of a whole call"):
            found, num_pipeline_steps = _synchronizations(arm, num_steps)
    return Profile(
        label=arm.label,
        mode=arm.mode,
        device=str(arm.device),
        shape=next(iter(arm.calls)),
        recording=recording,
        tracing=tracing,
        synchronizations=found,
        num_pipeline_steps=num_pipeline_steps,
        notes=_notes(arm, recording, on_gpu),
        advice=_advice(arm, recording, on_gpu),
        trace=trace_file,
    )


def _arm(
    what: str | Path,
    original: bool,
    eager: bool,
    device: str | None,
    overrides: Sequence[str],
    model: str | None,
    progress: Progress,
) -> ProfiledArm:
    path = Path(what).expanduser()
    if path.suffix in RECIPE_SUFFIXES or path.is_file():
        return arm_of_recipe(recipes.read(path, overrides, model), original, eager, device, progress)
    if overrides or model:
        raise ModelError(f"{what}: --set and --model change a recipe; an artifact is what it is. Name a recipe file.")
    with stage(progress, "check digests"):
        artifact = open_artifact(what, compiled=not (eager or original))
    return arm_of_artifact(artifact, original, eager, device, progress)


def _traced(arm: ProfiledArm) -> Tracing:
    found = [trace(item.targets, arm.runs(), item.step.dynamic) for item in arm.compiled]
    return Tracing(
        sum(item.num_graphs for item in found),
        sum(item.num_compilations for item in found),
        tuple(entry for item in found for entry in item.breaks),
        tuple(entry for item in found for entry in item.recompilations),
    )


def _synchronizations(arm: ProfiledArm, num_steps: int) -> tuple[tuple[Synchronization, ...], int]:
    """Of a whole call with few steps, after one that warms up what the denoiser alone did not."""
    pipeline, label = arm.subject.pipeline, next(iter(arm.calls))
    arguments = arm.subject.arguments(label)
    steps = max(num_steps, 5)  # fewer would not tell what comes at every step from what comes once or twice
    if "num_inference_steps" in inspect.signature(type(pipeline).__call__).parameters:
        # A call that names its own timesteps has as many steps as it names.
        named = next((arguments[name] for name in ("timesteps", "sigmas") if arguments.get(name) is not None), None)
        steps = len(named) if named is not None else steps
        arguments["num_inference_steps"] = steps

    def run() -> Any:
        return pipeline(**arguments | {"generator": torch.Generator("cpu").manual_seed(0)})

    with quiet(pipeline), torch.no_grad():
        run()
        return synchronizations(run, steps), steps


def _advice(arm: ProfiledArm, recording: Recording, on_gpu: bool) -> tuple[str, ...]:
    found = for_groups(_shares(recording, on_gpu), on_gpu, arm.mode != "eager", arm.whole)
    if arm.whole:
        costliest = [kernel for group in recording.groups for kernel in group.costliest]
        found += for_frequencies(costliest, recording.num_steps, recording.step_ms)
    return tuple(found)


def _shares(recording: Recording, on_gpu: bool) -> dict[str, float]:
    kernels = {group.name: group.ms / recording.num_steps for group in recording.groups}
    total = sum(kernels.values()) + recording.outside_ms(on_gpu)
    return {name: value / total for name, value in (kernels | {"outside": recording.outside_ms(on_gpu)}).items()}


def _notes(arm: ProfiledArm, recording: Recording, on_gpu: bool) -> tuple[str, ...]:
    notes = []
    if arm.mode == "packages":
        notes.append(PACKAGES)
        hidden = next((group.ms for group in recording.groups if group.name == COMPILED), 0.0)
        if not on_gpu and hidden > recording.kernel_ms * recording.num_steps / 4:
            notes.append(HIDDEN)
    if arm.mode == "eager":
        notes.append(NOT_COMPILED)
    if any(item.step.mode == "aot" for item in arm.compiled):
        notes.append(AHEAD_OF_TIME)
    if not on_gpu:
        notes.append(f"synchronizations: {NO_GPU}")
    return tuple(notes)
