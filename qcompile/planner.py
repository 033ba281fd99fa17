"""Recipe + models -> `Plan`: what will happen to every module, and what it will weigh. Touches no weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcompile import recipe as recipes
from qcompile.change import Change
from qcompile.devices import resolve_device
from qcompile.errors import PlanError
from qcompile.hints import hints
from qcompile.modules import stored_bytes
from qcompile.noise import quiet_libraries
from qcompile.pipeline import meta_pipeline, refuse_output_options
from qcompile.recipe import Recipe
from qcompile.schemes import SCHEMES
from qcompile.source import find_folder
from qcompile.steps import Phase, Step, Target
from qcompile.subject import Subject, subject_of_model, subject_of_pipeline


@dataclass(frozen=True)
class ComponentBytes:
    """Stored bytes of one component before and after the recipe."""

    name: str
    class_name: str
    before: int
    after: int


@dataclass(frozen=True)
class Plan:
    """What a recipe will do. `apply` reproduces `changes` exactly, or stops."""

    recipe: Recipe
    device_type: str
    denoiser: str
    shapes: tuple[str, ...]
    """Labels of the declared shapes, in the order of `Change.rows`."""
    changes: tuple[Change, ...]
    components: tuple[ComponentBytes, ...]
    obstacles: tuple[str, ...]
    """Why this machine can't apply the recipe; empty where it can."""
    rows_unknown: str | None = None
    """Why the rows that the denoiser's layers see are unknown, None where they are known."""
    hints: tuple[str, ...] = ()
    """What would make the result faster on this machine."""

    @property
    def bytes_before(self) -> int:
        """Bytes of all weights before the recipe."""
        return sum(component.before for component in self.components)

    @property
    def bytes_after(self) -> int:
        """Bytes of all weights after it, within 2 % of what `apply` writes."""
        return sum(component.after for component in self.components)


@quiet_libraries()
def plan(
    recipe: str | Path | Recipe,
    *,
    pipeline: Any = None,
    model: nn.Module | None = None,
    example_inputs: Sequence[Mapping[str, Any]] = (),
    device: str | None = None,
) -> Plan:
    """Say what a recipe will do, from configurations alone.

    Args:
        recipe: a recipe file, or a `Recipe`.
        pipeline: plan for this pipeline instead of the recipe's model.
        model: plan for this bare denoiser instead.
        example_inputs: keyword arguments that `model` is called with, one mapping a shape.
        device: `cpu`, `cuda` or `cuda:N`; by default a GPU where there is one.

    Raises:
        RecipeError: the recipe is not well formed.
        ModelError: the model can't be found or built.
        PlanError: the recipe does not fit the model.
        MachineError: there is no such device.
    """
    recipe = recipe if isinstance(recipe, Recipe) else recipes.read(recipe)
    subject = meta_subject(recipe, pipeline, model, example_inputs)
    return make_plan(recipe.naming(subject.denoiser), subject, resolve_device(device))


def meta_subject(
    recipe: Recipe, pipeline: Any, model: nn.Module | None, example_inputs: Sequence[Mapping[str, Any]]
) -> Subject:
    """The recipe's subject on meta: the twin of a live object where one is given, else the recipe's model."""
    if model is not None:
        return subject_of_model(recipe, model, example_inputs).twin()
    # Here, not in subject_of_pipeline: artifacts that were made with such a call go on being loaded.
    refuse_output_options(recipe.header.call)
    if pipeline is not None:
        return subject_of_pipeline(recipe, pipeline).twin()
    source = recipe.header.model
    folder = find_folder(source.id, source.revision, configs_only=True, place=recipe.model_place)
    return subject_of_pipeline(recipe, meta_pipeline(folder, getattr(torch, source.dtype)))


def make_plan(recipe: Recipe, subject: Subject, device: torch.device) -> Plan:
    """Walk the recipe's steps over models on meta."""
    before = {name: stored_bytes(model) for name, model in subject.components.items()}
    changes: list[Change] = []
    saved = dict.fromkeys(before, 0)
    for step, module, found in walk(recipe, subject, device.type):
        changes += found
        for change in found:
            if step.phase is Phase.QUANTIZE:
                saved[change.component] += change.bytes_before - change.bytes_after
        step.restructure(module)
    components = tuple(
        ComponentBytes(name, type(model).__name__, before[name], stored_bytes(model) - saved[name])
        for name, model in subject.components.items()
    )
    return Plan(
        recipe,
        device.type,
        subject.denoiser,
        tuple(subject.shapes),
        tuple(changes),
        components,
        _obstacles(recipe, device),
        subject.rows_unknown,
        hints(recipe, changes, torch.cuda.get_device_capability(device) if device.type == "cuda" else None),
    )


def walk(recipe: Recipe, subject: Subject, device_type: str) -> Iterator[tuple[Step, Any, tuple[Change, ...]]]:
    """Give each step with its component (or the pipeline) and its changes, in order.

    The caller carries the step out before it takes the next, so that later selectors see the rewritten modules.
    `plan` and `apply` both go through here: that is why they agree.
    """
    done: list[Change] = []
    for index, step in enumerate(recipe.steps):
        place = f"steps.{index}.{step.kind}"
        owner = subject.denoiser if step.owner is None else step.owner
        module = subject.component(owner, place)
        if step.owner is None and subject.pipeline is None:
            raise PlanError(f"{place}: this step needs a pipeline; a bare model has none. Take the step out.")
        target = Target(
            index=index,
            component=owner,
            module=module,
            is_denoiser=owner == subject.denoiser,
            device_type=device_type,
            compiled=any(
                later.phase is Phase.COMPILE and later.kind == "compile" and later.owner == owner
                for later in recipe.steps[index + 1 :]
            ),
            earlier=tuple(change for change in done if change.component == owner),
            rows=lambda name=owner: subject.rows(name),  # type: ignore[misc]
            pipeline=subject.pipeline,
            inductor=recipe.inductor_options(index),
        )
        changes = step.changes(target)
        done += changes
        module = subject.pipeline if step.owner is None else module
        yield step, module, changes


def _obstacles(recipe: Recipe, device: torch.device) -> tuple[str, ...]:
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    found = []
    for index, step in enumerate(recipe.steps):
        scheme = SCHEMES.get(getattr(step, "scheme", ""))
        reason = scheme.why_not_machine(device.type, capability) if scheme else None
        if reason:
            found.append(f"steps.{index}.{step.kind}.scheme: {reason}")
    return tuple(found)
