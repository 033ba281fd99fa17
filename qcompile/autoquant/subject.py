"""The model autoquant may look into: rewritten as the recipe's steps rewrite it, and nobody else's."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from qcompile.aot.callspec import Arguments
from qcompile.aot.options import options_of
from qcompile.change import Change
from qcompile.errors import PlanError
from qcompile.original import load_subject
from qcompile.pipeline import refuse_output_options
from qcompile.planner import walk
from qcompile.progress import Progress, stage
from qcompile.recipe import Recipe
from qcompile.steps import ComponentStep, Phase, PipelineStep, Step, Target, Workshop
from qcompile.steps.autoquant import AUTOQUANT
from qcompile.steps.compile import Compile
from qcompile.steps.quantize import Quantize
from qcompile.subject import subject_of_model, subject_of_pipeline


@dataclass(frozen=True)
class Task:
    """One autoquant step and the layers it is to choose for."""

    index: int
    """Of the step in the recipe."""
    step: Quantize
    layers: dict[str, nn.Linear]
    """By dotted name inside the denoiser, rewritten and not quantized."""
    compile_mode: str
    """How the recipe compiles the denoiser: `aot` or `jit`."""

    @property
    def place(self) -> str:
        """Where the step stands in the recipe, for messages."""
        return f"steps.{self.index}.{self.step.kind}"


@dataclass(frozen=True)
class Prepared:
    """A real denoiser after the recipe's rewriting steps, before any quantization."""

    model: nn.Module
    calls: Mapping[str, Arguments]
    """Arguments of its forward by shape label."""
    tasks: tuple[Task, ...]
    compiler_options: Mapping[str, Any]
    """Options with which the recipe compiles the denoiser, less those that a single layer's latency can't show."""


class _Candidates(Quantize):
    """An autoquant step while its layers are looked up."""

    def changes(self, target: Target) -> tuple[Change, ...]:
        return self.chosen(target)


class _Elsewhere(ComponentStep):
    """Stands for a step that is not looked at."""

    kind: ClassVar[str] = "elsewhere"
    phase: ClassVar[Phase] = Phase.REWRITE

    def changes(self, target: Target) -> tuple[Change, ...]:
        return ()


def autoquant_steps(recipe: Recipe) -> dict[int, Quantize]:
    """The steps of a recipe whose scheme is to be measured, by index."""
    return {
        index: step
        for index, step in enumerate(recipe.steps)
        if isinstance(step, Quantize) and step.scheme == AUTOQUANT
    }


def prepare(
    recipe: Recipe,
    pipeline: Any,
    model: nn.Module | None,
    example_inputs: Sequence[Mapping[str, Any]],
    device: torch.device,
    progress: Progress,
) -> Prepared:
    """Get a real denoiser, what it is called with, and the layers of every autoquant step.

    A live pipeline or model stays as it is: where steps rewrite the denoiser, a copy of it is rewritten.

    Raises:
        ModelError, PlanError: as `apply` does; also where the step names another component than the denoiser, or one
            that is not compiled.
    """
    if model is None:
        refuse_output_options(recipe.header.call)  # the plan would, after all that is measured
    if pipeline is not None and any(isinstance(step, PipelineStep) for step in recipe.steps):
        pipeline = copy.deepcopy(pipeline)
    if model is not None:
        subject = subject_of_model(recipe, model, example_inputs)
    elif pipeline is not None:
        subject = subject_of_pipeline(recipe, pipeline)
    else:
        subject = load_subject(recipe, device, progress, streamed=True)
    recipe = recipe.naming(subject.denoiser)
    for index, step in enumerate(recipe.steps):
        if step.owner is not None:
            subject.component(step.owner, f"steps.{index}.{step.kind}")
    # No quantize step may come after a compile step, so that the same one follows every autoquant step.
    compiled_by = {
        index: _compile_step(recipe, index, found, subject.denoiser) for index, found in autoquant_steps(recipe).items()
    }
    last = max(compiled_by)
    options = _compiler_options(recipe, compiled_by[last])
    with stage(progress, "capture calls"):
        calls = subject.calls()
    rewritten = any(step.owner == subject.denoiser and step.phase < Phase.QUANTIZE for step in recipe.steps)
    if rewritten and (pipeline or model) is not None:
        subject.components[subject.denoiser] = copy.deepcopy(subject.components[subject.denoiser])
    stand_in = replace(recipe, steps=tuple(_stand_in(step, subject.denoiser) for step in recipe.steps))
    tasks = []
    for index, (step, module, changes) in enumerate(walk(stand_in, subject, device.type)):
        if step.phase < Phase.QUANTIZE:
            step.restructure(module)
            workshop = Workshop(
                calls,
                Path(),
                progress,
                recipe.header.verify.max_compiled_error,
                pipeline=subject.pipeline,
                settle=subject.settle,
            )
            step.apply(module, changes, workshop)
        if isinstance(step, _Candidates):
            layers = {change.module: module.get_submodule(change.module) for change in changes if change.action}
            mode = recipe.steps[compiled_by[index]].mode  # type: ignore[attr-defined]
            tasks.append(Task(index, step, layers, mode))  # type: ignore[arg-type]
        if index == last:
            break  # before later steps ask what scheme it is
    for _ in walk(_only_compilation(recipe, subject.denoiser), subject, device.type):
        pass  # what `apply` would refuse after minutes of measuring is refused here
    return Prepared(subject.components[subject.denoiser], calls, tuple(tasks), options)


def _only_compilation(recipe: Recipe, denoiser: str) -> Recipe:
    steps = (step if step.phase is Phase.COMPILE else _Elsewhere(component=denoiser) for step in recipe.steps)
    return replace(recipe, steps=tuple(steps))


def _compile_step(recipe: Recipe, index: int, step: Quantize, denoiser: str) -> int:
    """Index of the step that compiles the layers of autoquant step `index`."""
    place = f"steps.{index}.{step.kind}"
    if step.component != denoiser:
        raise PlanError(
            f"{place}.component: autoquant measures layers of the denoiser ({denoiser}), whose calls are captured. "
            f"Name a scheme for {step.component}."
        )
    later = [
        found
        for found, other in enumerate(recipe.steps)
        if found > index and isinstance(other, Compile) and other.component == denoiser
    ]
    if not later:
        raise PlanError(
            f"{place}.scheme: autoquant measures compiled layers, but no later step compiles {denoiser}, and schemes "
            f"that are fast compiled can be slow otherwise. Add `- compile: {{component: {denoiser}, mode: aot}}`, or "
            "name a scheme."
        )
    return later[0]


def _compiler_options(recipe: Recipe, index: int) -> dict[str, Any]:
    """Options of compile step `index` that layers are measured with."""
    step = recipe.steps[index]
    assert isinstance(step, Compile)
    options = options_of(step.tuning, recipe.inductor_options(index))
    # A CUDA graph spares the launches of a whole step. One layer is timed without its launches anyway, and a graph of
    # its own would add a copy of its inputs, which the whole step does not make.
    options.pop("triton.cudagraphs", None)
    return options


def _stand_in(step: Step, denoiser: str) -> Step:
    if step.owner is not None and step.owner != denoiser:
        return _Elsewhere(component=step.owner)
    if isinstance(step, Quantize) and step.scheme == AUTOQUANT:
        return _Candidates(**{name: getattr(step, name) for name in Quantize.model_fields})
    return step
