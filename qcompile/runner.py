"""Recipe -> artifact folder: the only loop that changes a model."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcompile import recipe as recipes
from qcompile.aot.callspec import Arguments, spec_of
from qcompile.aot.dispatch import install
from qcompile.aot.runtime import LoadedPackage
from qcompile.aot.toolchain import check_toolchain
from qcompile.artifact.read import Artifact, read_artifact
from qcompile.artifact.staging import check_target, staged
from qcompile.artifact.write import write_manifest
from qcompile.aside import away, compiles_later
from qcompile.autoquant import resolve
from qcompile.built import Built, manifest_of, write_built
from qcompile.change import Change
from qcompile.devices import resolve_device
from qcompile.errors import MachineError, PlanError, StepError
from qcompile.images import save_png
from qcompile.noise import quiet_libraries
from qcompile.original import load_subject
from qcompile.pipeline import models_of, set_default_size
from qcompile.planner import Plan, make_plan, meta_subject, walk
from qcompile.progress import Progress, Silent, stage
from qcompile.quality.bounds import checks, refuse, refuse_unmeasurable
from qcompile.quality.reference import Reference, errors_of, measure, outputs, refuse_not_finite, take_reference
from qcompile.quality.tasks import NUM_SCORED, has_score, tasks_of
from qcompile.recipe import Recipe
from qcompile.steps import Phase, Workshop
from qcompile.subject import Subject, subject_of_model, subject_of_pipeline


@quiet_libraries()
def apply(
    recipe: str | Path | Recipe,
    *,
    out: str | Path,
    pipeline: Any = None,
    model: nn.Module | None = None,
    example_inputs: Sequence[Mapping[str, Any]] = (),
    device: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Run a recipe's steps in order and write the artifact.

    Args:
        recipe: a recipe file, or a `Recipe`.
        out: folder of the artifact; it appears only when everything is done and checked.
        pipeline: apply to this pipeline, in place, instead of loading the recipe's model; it runs compiled code then.
        model: apply to this bare denoiser instead.
        example_inputs: keyword arguments that `model` is called with, one mapping a shape.
        device: `cpu`, `cuda` or `cuda:N`; by default a GPU where there is one. A live object is used where it is.
        overwrite: replace an artifact that is at `out`.
        progress: told what happens.

    Raises:
        RecipeError, ModelError, PlanError: as `plan` does.
        MachineError: this machine can't run a scheme, has no working compiler, or no space is left.
        StepError: a step did something else than planned.
        VerifyError: a bound of the recipe's `verify` does not hold; nothing is put in place.
        ArtifactError: `out` can't be written.
    """
    recipe = recipe if isinstance(recipe, Recipe) else recipes.read(recipe)
    progress = progress or Silent()
    target = Path(out)
    check_target(target, overwrite)
    where = resolve_device(device) if pipeline is None and model is None else _device_of(pipeline, model, device)
    refuse_bounds(recipe, model is None)
    # An artifact's recipe is explicit: what autoquant decides is decided first.
    live: dict[str, Any] = {"pipeline": pipeline, "model": model, "example_inputs": example_inputs}
    resolution = resolve(recipe, **live, device=str(where), progress=progress)
    with stage(progress, "plan"):
        on_meta = meta_subject(resolution.recipe, pipeline, model, example_inputs)
        recipe = resolution.recipe.naming(on_meta.denoiser)
        plan = make_plan(recipe, on_meta, where)
    if plan.obstacles:
        raise MachineError(f"{'; '.join(plan.obstacles)}. Choose another scheme with --set, or another machine.")
    for hint in plan.hints:
        progress.note(f"Hint: {hint}")
    if any(step.phase is Phase.COMPILE for step in recipe.steps):
        with stage(progress, "check the compiler"):
            check_toolchain()
    with staged(target, overwrite) as root:
        subject = _subject(recipe, pipeline, model, example_inputs, where, progress)
        subject.rows_unknown = plan.rows_unknown
        built = _run(plan, subject, root, where, progress)
        with stage(progress, "write weights"):
            write_built(built, root, resolution.comment())
        with stage(progress, "digests"):
            write_manifest(root, manifest_of(built, where))
    return read_artifact(target)


def _subject(
    recipe: Recipe,
    pipeline: Any,
    model: nn.Module | None,
    example_inputs: Sequence[Mapping[str, Any]],
    device: torch.device,
    progress: Progress,
) -> Subject:
    if model is not None:
        return subject_of_model(recipe, model.eval().requires_grad_(False), example_inputs)
    if pipeline is None:
        return load_subject(recipe, device, progress, streamed=True)
    subject = subject_of_pipeline(recipe, pipeline)
    for component in subject.components.values():
        component.eval().requires_grad_(False)
    first = next(iter(subject.shapes.values()))
    set_default_size(pipeline, first.height, first.width)
    return subject


def _run(plan: Plan, subject: Subject, root: Path, device: torch.device, progress: Progress) -> Built:
    built = Built(plan, subject)
    bounds = plan.recipe.header.verify
    denoiser = subject.components[subject.denoiser]
    # Where the original is kept out of the GPU's memory, what becomes of it leaves it for what needs it more.
    spares_memory = subject.streaming is not None
    with stage(progress, "capture calls"):
        calls = subject.calls()
    reference: Reference | None = None
    eager: dict[str, Any] = {}
    for index, (step, module, changes) in enumerate(walk(plan.recipe, subject, device.type)):
        _compare_with_plan(plan, changes)
        if reference is None and step.phase > Phase.LORA:
            # With its adapters the model is the one asked for: what they change is no error.
            reference = _reference(plan, subject, progress)
        if step.phase is Phase.COMPILE:
            # What compiled code is held against; a later step of this phase must not see compiled output here.
            eager = eager or outputs(denoiser, calls)
            refuse_not_finite(subject, calls, eager, "the result's")  # here, where its layers can still be told apart
        workshop = Workshop(
            calls,
            root,
            progress,
            bounds.max_compiled_error,
            pipeline=subject.pipeline,
            settle=subject.settle,
            inductor=plan.recipe.inductor_options(index),
            part_calls=subject.part_calls,
            alone=partial(_alone, subject, device) if spares_memory else nullcontext,
        )
        if step.phase is Phase.COMPILE:
            step.apply(module, changes, workshop)  # it reports every package as a stage of its own
        else:
            with stage(progress, f"{step.kind} {step.owner or 'pipeline'}"):
                step.restructure(module)
                step.apply(module, changes, workshop)
        built.packages += workshop.packages
    reference = reference or _reference(plan, subject, progress)
    subject.spares_memory_of = device if spares_memory else None
    subject.settle()
    with stage(progress, "verify"):
        _install(built, root, calls, device)
        compiled_errors = errors_of(denoiser, calls, eager) if built.packages else {}
        # Images come last: they can leave the weights in the computer's memory, from where they are written.
        built.measured, images = measure(subject, reference, "the result's")
        built.measured.compiled_errors = compiled_errors
        refuse(checks(bounds, built.measured, subject.denoiser))
        if images:
            save_png(reference.images[0], root / "reference.png")
            save_png(images[0], root / "quantized.png")
    return built


def _alone(subject: Subject, device: torch.device) -> AbstractContextManager[None]:
    """The denoiser away from the GPU, in its final form, unless torch.compile holds on to it."""
    denoiser = subject.components[subject.denoiser]
    if compiles_later(denoiser):
        return nullcontext()
    subject.settle()
    return away(denoiser, device)


def _reference(plan: Plan, subject: Subject, progress: Progress) -> Reference:
    header = plan.recipe.header
    scored = has_score(header.model.id) and header.verify.max_score_loss_points is not None
    with stage(progress, "reference"):
        reference = take_reference(
            subject, tasks_of(header.model.id, subject.call, NUM_SCORED + 1 if scored else 1), scored
        )
        refuse_unmeasurable(header.verify, subject.pipeline is not None, bool(reference.images), scored)
    return reference


def refuse_bounds(recipe: Recipe, is_pipeline: bool) -> None:
    """Refuse bounds of a recipe on what can't be measured, as far as is known before its model runs.

    Raises:
        PlanError: naming the bound.
    """
    refuse_unmeasurable(recipe.header.verify, is_pipeline, True, has_score(recipe.header.model.id))


def _compare_with_plan(plan: Plan, changes: tuple[Change, ...]) -> None:
    planned = [change for change in plan.changes if changes and change.step == changes[0].step]
    for mine, theirs in zip(planned, changes, strict=False):
        if mine != theirs:
            raise StepError(
                f"steps.{theirs.step}.{theirs.kind}: {theirs.module or theirs.component} is not what the plan saw: "
                f"{theirs} instead of {mine}. The model was changed since it was configured (an adapter, a replaced "
                "layer?); undo that."
            )
    if len(planned) != len(changes):
        raise StepError(
            f"the model has {len(changes)} modules for step {changes[0].step if changes else '?'}, the plan "
            f"{len(planned)}. It was changed since it was configured (an adapter, a replaced layer?); undo that."
        )


def _install(built: Built, root: Path, calls: Mapping[str, Arguments], device: torch.device) -> None:
    if not built.packages:
        return
    index = device.index if device.type == "cuda" else -1
    loaded = [LoadedPackage(root / package.file, package, -1 if index is None else index) for package in built.packages]
    specs = {label: spec_of(call) for label, call in calls.items()}
    for name in dict.fromkeys(package.component for package in built.packages):
        own = [item for item in loaded if item.package.component == name]
        install(name, built.subject.components[name], own, specs if name == built.subject.denoiser else None)


def _device_of(pipeline: Any, model: nn.Module | None, device: str | None) -> torch.device:
    """Where a live object is; it stays there."""
    owner = model if model is not None else pipeline
    kind = "pipeline" if model is None else "model"
    parts = [owner] if isinstance(owner, nn.Module) else list(models_of(owner).values())
    if any(hasattr(module, "_hf_hook") for part in parts for module in part.modules()):
        raise PlanError(
            f"{kind}: accelerate moves its parts when they run (offloading), so that it is on no one device. Undo that "
            "(pipeline.remove_all_hooks(), or load it without a device_map) and move it to where it is to run."
        )
    places = sorted({str(parameter.device) for part in parts for parameter in part.parameters()})
    if len(places) != 1:
        raise PlanError(f"{kind}: its weights are on {' and '.join(places)}. Move all of it to one device first.")
    found = resolve_device(places[0])
    if device is not None and resolve_device(device) != found:
        raise PlanError(
            f"device: {device} is not where the {kind} is, {found}. Move it there first (.to({device!r})), or leave "
            "device out."
        )
    return found
