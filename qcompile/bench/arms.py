"""The arms: one denoiser run in different ways, on the same captured inputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcompile import recipe as recipes
from qcompile.aot.options import options_of
from qcompile.artifact.read import Artifact
from qcompile.bench.timing import Timed
from qcompile.errors import MachineError, PlanError, nearest
from qcompile.loader import load
from qcompile.pipeline import load_pipeline
from qcompile.source import find_folder
from qcompile.steps.compile import Compile
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


@dataclass
class Stand:
    """What all arms of one artifact share: two pipelines at most, and inputs captured from the original."""

    artifact: Artifact
    device: torch.device
    pipelines: dict[str, Any]
    """`original` and `artifact`, and one for each artifact given besides."""
    calls: dict[str, Mapping[str, Any]]
    """Arguments of the denoiser by shape label."""

    @property
    def denoiser(self) -> str:
        """Name of the component that runs at every step."""
        return self.artifact.manifest.denoiser

    def model(self, name: str) -> nn.Module:
        """The denoiser of one pipeline."""
        return getattr(self.pipelines[name], self.denoiser)  # type: ignore[no-any-return]


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
    why_not = {name: reason for name in ARMS if (reason := _why_not(name, artifact, device))}
    for name in names:
        if name not in ARMS:
            raise PlanError(f"--arms {name}: there is no such arm; {nearest(name, ARMS)}.")
        if name in why_not:
            raise MachineError(f"--arms {name}: {why_not[name]}. Leave it out.")
    return [name for name in names or ARMS if name not in why_not], ({} if names else why_not)


def make_stand(
    artifact: Artifact, against: Mapping[str, Artifact], names: Sequence[str], device: torch.device
) -> Stand:
    """Load what the arms need, and capture the denoiser's inputs.

    Raises:
        ModelError: the original can't be found.
    """
    manifest = artifact.manifest
    pipelines: dict[str, Any] = {}
    if {"eager", "jit_bf16"} & set(names):
        folder = find_folder(manifest.model.id, manifest.model.revision)
        pipelines["original"] = load_pipeline(folder, getattr(torch, manifest.model.dtype), device)
    if {"eager_quantized", "jit", "aot", "aot_graphs"} & set(names):
        pipelines["artifact"] = load(artifact, device=str(device), compiled=False)
    for name, other in against.items():
        pipelines[name] = load(other, device=str(device))
    for pipeline in pipelines.values():
        pipeline.set_progress_bar_config(disable=True)
    recipe = recipes.parse(artifact.recipe_text, f"{artifact.folder}/recipe.yaml")
    source = pipelines.get("original", next(iter(pipelines.values())))
    return Stand(artifact, device, pipelines, dict(subject_of_pipeline(recipe, source).calls()))


def arms_of(stand: Stand, names: Sequence[str], against: Sequence[str], label: str) -> dict[str, Timed]:
    """One step of the denoiser for every arm, for one declared shape."""
    found = {}
    for name in names:
        kind = "original" if name in ("eager", "jit_bf16") else "artifact"
        model, call = stand.model(kind), stand.calls[label]
        step = _step(model, call)
        if name in ("eager", "eager_quantized"):
            found[name] = Timed(step)
        elif name in ("jit", "jit_bf16"):
            found[name] = Timed(step, _compiled(stand, model))
        elif name == "aot":
            found[name] = Timed(step, _packaged(stand, model))
        else:
            found[name] = Timed(_Graph(step, _packaged(stand, model)))
    for name in against:
        found[name] = Timed(_step(stand.model(name), stand.calls[label]))
    return found


def _step(model: nn.Module, call: Mapping[str, Any]) -> Callable[[], Any]:
    return lambda: model(**call)


def _why_not(name: str, artifact: Artifact, device: torch.device) -> str | None:
    if name == "aot_graphs" and device.type != "cuda":
        return "CUDA graphs need a GPU"
    if name in ("aot", "aot_graphs") and not artifact.manifest.packages:
        return "the artifact has no packages"
    if artifact.manifest.model.kind != "pipeline":
        return "a bare model has no pipeline to capture inputs from"
    return None


def compile_step(stand: Stand) -> tuple[Compile, dict[str, Any]]:
    """The recipe's compile step of the denoiser with its compiler options; blocks at default options without one."""
    recipe = recipes.parse(stand.artifact.recipe_text, f"{stand.artifact.folder}/recipe.yaml")
    for index, step in enumerate(recipe.steps):
        if isinstance(step, Compile) and step.owner == stand.denoiser:
            return step, options_of(step.tuning, recipe.inductor_options(index))
    return Compile(component=stand.denoiser, mode="jit"), options_of("default", {})


def _compiled(stand: Stand, model: nn.Module) -> Callable[[], Any]:
    """A context in which the targets of the recipe's compile step run under torch.compile."""
    step, options = compile_step(stand)
    targets = step.targets(model)
    compiled = {name: torch.compile(part._call_impl, options=dict(options)) for name, part in targets.items()}

    @contextmanager
    def around() -> Iterator[None]:
        for name, part in targets.items():
            part._compiled_call_impl = compiled[name]
        # More than one model of a class goes through here; past the limit torch would run eagerly without a word.
        with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
            try:
                yield
            finally:
                for part in targets.values():
                    part._compiled_call_impl = None

    return around


def _packaged(stand: Stand, model: nn.Module) -> Callable[[], Any]:
    """A context in which the layers of the artifact's denoiser run its packages."""
    from qcompile.aot.dispatch import install
    from qcompile.aot.runtime import LoadedPackage

    own = [package for package in stand.artifact.manifest.packages if package.component == stand.denoiser]
    index = stand.device.index if stand.device.type == "cuda" and stand.device.index is not None else -1
    opened = [LoadedPackage(Path(stand.artifact.folder, package.file), package, index) for package in own]

    @contextmanager
    def around() -> Iterator[None]:
        remove = install(stand.denoiser, model, opened, stand.artifact.manifest.calls)
        try:
            yield
        finally:
            remove()

    return around


class _Graph:
    """A step as one CUDA graph, captured at the first call."""

    def __init__(self, step: Callable[[], Any], around: Callable[[], Any]) -> None:
        self._step = step
        self._around = around
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with self._around():
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(2):
                        self._step()
                torch.cuda.current_stream().wait_stream(side)
                with torch.cuda.graph(graph):
                    self._step()
            self._graph = graph
        self._graph.replay()
