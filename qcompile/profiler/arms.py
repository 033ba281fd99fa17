"""What is profiled: an artifact as it is loaded, or a recipe carried out in memory; or the original of either."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from qcompile import recipe as recipes
from qcompile.aot.callspec import Arguments
from qcompile.aot.options import for_compiler, options_of
from qcompile.artifact.read import Artifact
from qcompile.devices import resolve_device
from qcompile.errors import MachineError, ModelError
from qcompile.loader import load
from qcompile.original import load_subject
from qcompile.planner import make_plan, meta_subject, walk
from qcompile.progress import Progress, stage
from qcompile.recipe import Recipe
from qcompile.steps import Phase, Workshop
from qcompile.steps.compile import Compile
from qcompile.subject import Subject, subject_of_pipeline

Mode = Literal["packages", "torch.compile", "eager"]

_NAMES_IN_CODE = {"cpp.enable_kernel_profile": True}
"""Compiler option by which C++ code tells the profiler the names of its kernels; code for GPUs needs none."""


@dataclass(frozen=True)
class Compiled:
    """Modules of one compile step."""

    step: Compile
    targets: Mapping[str, nn.Module]
    options: Mapping[str, Any]

    def install(self) -> None:
        """Hand the modules to torch.compile, as the step says."""
        for module in self.targets.values():
            module.compile(options=for_compiler({**self.options, **_NAMES_IN_CODE}), dynamic=self.step.dynamic)


@dataclass(frozen=True)
class ProfiledArm:
    """A pipeline that is about to be profiled."""

    label: str
    subject: Subject
    calls: Mapping[str, Arguments]
    """Arguments of the denoiser's call by shape label."""
    device: torch.device
    mode: Mode
    compiled: tuple[Compiled, ...]
    """The denoiser's compile steps, not carried out yet."""
    whole: bool
    """Whether the denoiser is compiled as one graph."""

    @property
    def denoiser(self) -> nn.Module:
        """The module that runs at every step."""
        return self.subject.components[self.subject.denoiser]

    def step(self) -> Callable[[], Any]:
        """One call of the denoiser for the first declared shape."""
        call, denoiser = next(iter(self.calls.values())), self.denoiser
        return lambda: denoiser(**call)

    def runs(self) -> dict[str, Callable[[], Any]]:
        """One call of the denoiser for each declared shape."""
        denoiser = self.denoiser
        return {label: lambda call=call: denoiser(**call) for label, call in self.calls.items()}  # type: ignore[misc]


def arm_of_artifact(
    artifact: Artifact, original: bool, eager: bool, device: str | None, progress: Progress
) -> ProfiledArm:
    """Load an artifact, or the model it was made from.

    Raises:
        ModelError: it holds a bare model, or the original can't be found.
        EnvironmentMismatch: its packages don't fit this machine.
    """
    manifest = artifact.manifest
    recipe = recipes.parse(artifact.recipe_text, f"{artifact.folder}/recipe.yaml")
    if manifest.model.kind != "pipeline":
        raise ModelError(
            f"{artifact.folder} holds a bare {manifest.model.class_name} and no pipeline that calls it. Profile it in "
            "Python: qcompile.profiler.record."
        )
    if original:
        return arm_of_recipe(recipe, True, eager, device or manifest.environment.device, progress)
    packages = any(package.component == manifest.denoiser for package in manifest.packages) and not eager
    pipeline = load(artifact, device=device, compiled=not eager, progress=progress)
    subject = subject_of_pipeline(recipe, pipeline)
    where = next(subject.components[subject.denoiser].parameters()).device
    with stage(progress, "capture calls"):
        calls = subject.calls()
    compiled = () if eager or packages else _compiled(recipe, subject)
    mode: Mode = "packages" if packages else "torch.compile" if compiled else "eager"
    whole = mode != "eager" and _is_whole(recipe, subject)
    return ProfiledArm(manifest.recipe.name, subject, calls, where, mode, compiled, whole)


def arm_of_recipe(recipe: Recipe, original: bool, eager: bool, device: str | None, progress: Progress) -> ProfiledArm:
    """Load a recipe's model and carry the recipe out in memory; what it compiles is left to torch.compile.

    Args:
        recipe: the recipe.
        original: carry out nothing but the compile steps.
        eager: compile nothing.
        device: `cpu`, `cuda` or `cuda:N`; by default a GPU where there is one.
        progress: told what happens.

    Raises:
        ModelError, PlanError: as `plan` does.
        MachineError: this machine can't run one of the schemes.
    """
    where = resolve_device(device)
    with stage(progress, "plan"):
        on_meta = meta_subject(recipe, None, None, ())
        recipe = recipe.naming(on_meta.denoiser)
        plan = make_plan(recipe, on_meta, where)
    if plan.obstacles and not original:
        raise MachineError(
            f"{'; '.join(plan.obstacles)}. Choose another scheme with --set, or profile the original with --original."
        )
    subject = load_subject(recipe, where, progress)
    with stage(progress, "capture calls"):
        calls = subject.calls()
    if not original:
        with stage(progress, "carry out the recipe"):
            _carry_out(recipe, subject, where, progress)
    compiled = () if eager else _compiled(recipe, subject)
    source = recipe.header.model
    label = f"{source.id}, {source.dtype}" if original else recipe.name
    whole = bool(compiled) and _is_whole(recipe, subject)
    return ProfiledArm(label, subject, calls, where, "torch.compile" if compiled else "eager", compiled, whole)


def _carry_out(recipe: Recipe, subject: Subject, device: torch.device, progress: Progress) -> None:
    for step, module, changes in walk(recipe, subject, device.type):
        if step.phase is not Phase.COMPILE:
            workshop = Workshop(
                subject.calls(), Path(), progress, recipe.header.verify.max_compiled_error, pipeline=subject.pipeline
            )
            step.restructure(module)
            step.apply(module, changes, workshop)


def _compiled(recipe: Recipe, subject: Subject) -> tuple[Compiled, ...]:
    """The recipe's compile steps of the denoiser; other components run in no denoising step."""
    model = subject.components[subject.denoiser]
    return tuple(
        Compiled(step, step.targets(model), options_of(step.tuning, recipe.inductor_options(index)))
        for index, step in _compile_steps(recipe, subject)
    )


def _is_whole(recipe: Recipe, subject: Subject) -> bool:
    return any(step.scope == "full" for _, step in _compile_steps(recipe, subject))


def _compile_steps(recipe: Recipe, subject: Subject) -> list[tuple[int, Compile]]:
    steps = enumerate(recipe.naming(subject.denoiser).steps)
    return [(index, step) for index, step in steps if isinstance(step, Compile) and step.component == subject.denoiser]
