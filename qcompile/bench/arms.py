"""The arms: one denoiser run in different ways, on the same captured inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from qcompile import recipe as recipes
from qcompile.aot.runtime import LoadedPackage
from qcompile.artifact.read import Artifact
from qcompile.bench.around import Graph, compiled, no_silent_eager, open_packages, packaged
from qcompile.bench.faults import ARM_FAULTS, reason_of, release_memory
from qcompile.bench.found import Found
from qcompile.bench.timing import Timed
from qcompile.environment import current, rejections
from qcompile.errors import MachineError, ModelError, PlanError, nearest
from qcompile.loader import load
from qcompile.pipeline import load_pipeline
from qcompile.recipe import Recipe
from qcompile.schemes import SCHEMES
from qcompile.source import find_folder
from qcompile.steps import Phase
from qcompile.subject import subject_of_pipeline

ARMS = {
    "eager": "the original model, eager",
    "jit_bf16": "the original model under torch.compile: the control",
    "eager_quantized": "the artifact's weights, eager",
    "jit": "the artifact's weights under torch.compile",
    "aot": "the artifact as it loads, code compiled ahead of time",
    "aot_graphs": "the same, a whole step as one CUDA graph",
}
"""Arms by name; artifacts given with --against are arms under their folder's name."""
COLD_ONLY = {
    "jit_from_original": "the original, quantized and handed to torch.compile at every start, as without an artifact",
}
"""Arms of cold starts only: once it is warm, this one is `jit`."""
NO_GRAPHS = "CUDA graphs need a GPU"
OF_ORIGINAL = ("eager", "jit_bf16")
_Made = TypeVar("_Made")


@dataclass
class Stand:
    """What all arms of one artifact share: two pipelines at most, those of other artifacts, and inputs."""

    artifact: Artifact
    device: torch.device
    pipelines: dict[str, Any] = field(default_factory=dict)
    """`original` and `artifact`, and one for each artifact given besides."""
    calls: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Arguments of the denoiser by shape label."""
    _opened: dict[str, list[LoadedPackage]] | None = None

    @property
    def denoiser(self) -> str:
        """Name of the component that runs at every step."""
        return self.artifact.manifest.denoiser

    def pipeline(self, arm: str) -> Any:
        """The pipeline that an arm runs."""
        return self.pipelines[pipeline_of(arm)]

    def model(self, arm: str) -> nn.Module:
        """The denoiser that an arm runs."""
        return getattr(self.pipeline(arm), self.denoiser)  # type: ignore[no-any-return]

    def opened(self) -> dict[str, list[LoadedPackage]]:
        """The artifact's packages by component, opened once."""
        if self._opened is None:
            self._opened = open_packages(self.artifact, self.device)
        return self._opened


def pipeline_of(arm: str) -> str:
    """Name of the pipeline that an arm runs."""
    if arm not in ARMS:
        return arm
    return "original" if arm in OF_ORIGINAL else "artifact"


def choose(names: Sequence[str], artifact: Artifact, device: torch.device) -> tuple[list[str], dict[str, str]]:
    """The arms to run, and those that this machine or artifact has not, with the reason.

    Args:
        names: what the user asked for; empty for all that can run.
        artifact: the artifact.
        device: where it runs.

    Raises:
        PlanError: no arm has this name.
        MachineError: an arm that was asked for can't run.
    """
    refuse_unknown(names)
    why_not = {name: reason for name in names or ARMS if (reason := _why_not(name, artifact, device))}
    for name in names:
        if name in why_not:
            raise MachineError(f"--arms {name}: {why_not[name].rstrip('.')}. Leave it out.")
    return [name for name in names or ARMS if name not in why_not], why_not


def refuse_unknown(names: Sequence[str]) -> None:
    """Refuse names that no arm has.

    Raises:
        PlanError: naming the first.
    """
    for name in names:
        if name not in ARMS:
            raise PlanError(f"--arms {name}: there is no such arm; {nearest(name, ARMS)}.")


def make_stand(
    found: Found, artifact: Artifact, against: Mapping[str, Artifact], names: Sequence[str], device: torch.device
) -> Stand:
    """Load what the arms need, and capture the denoiser's inputs; arms for which that fails are left out.

    Args:
        found: told what is left out.
        artifact: the artifact.
        against: other artifacts, by arm.
        names: arms of the artifact.
        device: where they run.
    """
    stand = Stand(artifact, device)
    loaders: dict[str, Callable[[], Any]] = {}
    for name in sorted(names, key=lambda name: name not in OF_ORIGINAL):
        loaders[pipeline_of(name)] = partial(_load, artifact, device, pipeline_of(name) == "original")
    for name, other in against.items():
        loaders[name] = partial(load, other, device=str(device))
    arms = {kind: [name for name in (*names, *against) if pipeline_of(name) == kind] for kind in loaders}
    for kind, make in loaders.items():
        pipeline = _attempt(found, arms[kind], make)
        if pipeline is not None:
            pipeline.set_progress_bar_config(disable=True)
            stand.pipelines[kind] = pipeline
        del pipeline
    recipe = recipes.parse(artifact.recipe_text, f"{artifact.folder}/recipe.yaml")
    # The original's inputs where it is there: it comes first. One artifact's are as good, should it fail.
    for kind in tuple(stand.pipelines):
        calls = _attempt(found, arms[kind], partial(_calls, stand, kind, recipe))
        if calls is not None:
            stand.calls.update(calls)
            break
        # Nothing else may hold it: the next one needs its memory.
        del stand.pipelines[kind]
        release_memory()
    return stand


def _calls(stand: Stand, kind: str, recipe: Recipe) -> Mapping[str, Mapping[str, Any]]:
    return subject_of_pipeline(recipe, stand.pipelines[kind]).calls()


def arms_of(found: Found, stand: Stand, names: Sequence[str], label: str) -> dict[str, Timed]:
    """One step of the denoiser for every arm whose pipeline is there, for one declared shape.

    Arms that can't be brought about are left out, and `found` told why.
    """
    arms = {}
    for name in names:
        if pipeline_of(name) in stand.pipelines:
            arm = _attempt(found, [name], partial(_arm, stand, name, label), f"at {label}")
            if arm is not None:
                arms[name] = arm
    return arms


def _arm(stand: Stand, name: str, label: str) -> Timed:
    step = partial(stand.model(name), **stand.calls[label])
    if name in ("eager", "eager_quantized"):
        return Timed(step)
    if name in ("jit", "jit_bf16"):
        return Timed(step, compiled(stand.artifact, stand.pipeline(name)))
    if name == "aot":
        return Timed(step, packaged(stand.artifact, stand.pipeline(name), stand.opened()))
    if name == "aot_graphs":
        return Timed(Graph(step, packaged(stand.artifact, stand.pipeline(name), stand.opened())))
    return Timed(step, no_silent_eager)


def _load(artifact: Artifact, device: torch.device, original: bool) -> Any:
    if not original:
        return load(artifact, device=str(device), compiled=False)
    model = artifact.manifest.model
    return load_pipeline(find_folder(model.id, model.revision), getattr(torch, model.dtype), device)


def _attempt(found: Found, arms: Sequence[str], make: Callable[[], _Made], what: str = "") -> _Made | None:
    """What `make` gives; None where it fails for a reason of its own, and the arms are left out."""
    try:
        return make()
    except ARM_FAULTS as error:
        reason = reason_of(error)
    release_memory()
    for name in arms:
        found.leave_out(name, reason, what)
    return None


def _why_not(name: str, artifact: Artifact, device: torch.device) -> str | None:
    manifest = artifact.manifest
    if manifest.model.kind != "pipeline":
        return "a bare model has no pipeline to capture inputs from"
    if name in OF_ORIGINAL:
        return _why_not_original(artifact)
    if name == "aot_graphs" and device.type != "cuda":
        return NO_GRAPHS
    if name == "aot" and not manifest.packages:
        return "the artifact has no packages"
    if name == "aot_graphs" and all(package.component != manifest.denoiser for package in manifest.packages):
        return f"the artifact has no packages of its {manifest.denoiser}"
    if name in ("aot", "aot_graphs"):
        differing = rejections(manifest.environment, current(str(device)))
        if differing:
            listed = "; ".join(f"{item.field}: built for {item.recorded}, here {item.here}" for item in differing)
            return f"the packages of this artifact don't fit this machine: {listed}"
    return _why_not_schemes(name, recipes.parse(artifact.recipe_text), device)


def _why_not_original(artifact: Artifact) -> str | None:
    try:
        find_folder(artifact.manifest.model.id, artifact.manifest.model.revision)
    except ModelError as error:
        return str(error)
    return None


def refuse_impossible(names: Sequence[str], recipe: Recipe, device: torch.device) -> None:
    """Refuse arms that an artifact of this recipe can't give, before it is made.

    Raises:
        MachineError: naming the first.
    """
    compiled = [step for step in recipe.steps if step.phase is Phase.COMPILE and getattr(step, "mode", "") == "aot"]
    for name in [name for name in names if name not in OF_ORIGINAL]:
        reason = _why_not_schemes(name, recipe, device)
        if name in ("aot", "aot_graphs") and not compiled:
            reason = "no step of the recipe compiles ahead of time"
        if name == "aot_graphs" and device.type != "cuda":
            reason = NO_GRAPHS
        if reason:
            raise MachineError(f"--arms {name}: {reason.rstrip('.')}. Leave it out.")


def _why_not_schemes(name: str, recipe: Recipe, device: torch.device) -> str | None:
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    for step in recipe.steps:
        scheme = SCHEMES.get(getattr(step, "scheme", ""))
        if scheme is None:
            continue
        reason = scheme.why_not_machine(device.type, capability)
        if name == "jit" and scheme.why_not_jit:
            reason = reason or f"{scheme.name} can't be used with torch.compile: {scheme.why_not_jit}"
        if reason:
            return reason
    return None
