"""Recipe -> artifact folder: the only loop that changes a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcompile import recipe as recipes
from qcompile.aot.callspec import Arguments, spec_of
from qcompile.aot.compare import relative_error
from qcompile.aot.dispatch import install
from qcompile.aot.runtime import LoadedPackage
from qcompile.aot.toolchain import check_toolchain
from qcompile.artifact.manifest import (
    RECIPE,
    ComponentRecord,
    Manifest,
    ModelRecord,
    RecipeRecord,
    ShapeRecord,
    Verification,
)
from qcompile.artifact.read import Artifact, read_artifact
from qcompile.artifact.staging import check_target, staged
from qcompile.artifact.tensors import write_tensors
from qcompile.artifact.write import write_manifest
from qcompile.change import Change
from qcompile.environment import current
from qcompile.errors import MachineError, StepError, VerifyError
from qcompile.images import paint, psnr_db, save_png
from qcompile.noise import quiet_libraries
from qcompile.package import Package
from qcompile.pipeline import load_pipeline, set_default_size
from qcompile.planner import Plan, make_plan, meta_subject, resolve_device, walk
from qcompile.progress import Progress, Silent, stage
from qcompile.recipe import Recipe
from qcompile.source import find_folder
from qcompile.steps import Phase, Workshop
from qcompile.subject import SEED, Subject, subject_of_model, subject_of_pipeline
from qcompile.version import __version__


@dataclass
class Built:
    """A subject after the recipe, and what was measured on the way."""

    plan: Plan
    subject: Subject
    packages: list[Package] = field(default_factory=list)
    quantized_errors: dict[str, float] = field(default_factory=dict)
    compiled_errors: dict[str, float] = field(default_factory=dict)
    image_psnr_db: float | None = None


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
        device: `cpu`, `cuda` or `cuda:N`; by default that of the live object, else a GPU where there is one.
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
    where = (
        _device_of(pipeline, model) if device is None and (pipeline or model) is not None else resolve_device(device)
    )
    with stage(progress, "plan"):
        plan = make_plan(recipe, meta_subject(recipe, pipeline, model, example_inputs), where)
    if plan.obstacles:
        raise MachineError(f"{'; '.join(plan.obstacles)}. Choose another scheme with --set, or another machine.")
    if any(step.phase is Phase.COMPILE for step in recipe.steps):
        with stage(progress, "check the compiler"):
            check_toolchain()
    with staged(target, overwrite) as root:
        subject = _subject(recipe, pipeline, model, example_inputs, where, progress)
        subject.rows_unknown = plan.rows_unknown
        built = _run(plan, subject, root, where, progress)
        with stage(progress, "write weights"):
            _write(built, root)
            (root / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
        with stage(progress, "digests"):
            write_manifest(root, _manifest(built, where))
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
        source = recipe.header.model
        with stage(progress, "load the model"):
            pipeline = load_pipeline(find_folder(source.id, source.revision), getattr(torch, source.dtype), device)
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
    with stage(progress, "capture calls"):
        calls = subject.calls()
    with stage(progress, "reference"):
        reference = _outputs(denoiser, calls)
        before = paint(subject, next(iter(subject.shapes)), SEED)
    eager = reference
    for step, module, changes in walk(plan.recipe, subject, device.type):
        _compare_with_plan(plan, changes)
        if step.phase is Phase.COMPILE:
            # What compiled code is held against; a later step of this phase must not see compiled output here.
            eager = eager if built.packages else _outputs(denoiser, calls)
        workshop = Workshop(calls, root, progress, bounds.max_compiled_error)
        if step.phase is Phase.COMPILE:
            step.apply(module, changes, workshop)  # it reports every package as a stage of its own
        else:
            with stage(progress, f"{step.kind} {step.component}"):
                step.restructure(module)
                step.apply(module, changes, workshop)
        built.packages += workshop.packages
    with stage(progress, "verify"):
        _install(built, root, calls, device)
        after = _outputs(denoiser, calls)
        built.quantized_errors = _errors(after, reference)
        if built.packages:
            built.compiled_errors = _errors(after, eager)
        _check(built)
        image = paint(subject, next(iter(subject.shapes)), SEED)
        if before is not None and image is not None:
            save_png(before, root / "reference.png")
            save_png(image, root / "quantized.png")
            built.image_psnr_db = psnr_db(image, before)
    return built


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


def _outputs(denoiser: nn.Module, calls: Mapping[str, Arguments]) -> dict[str, Any]:
    with torch.no_grad():
        return {label: denoiser(**call) for label, call in calls.items()}


def _errors(outputs: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, float]:
    return {label: relative_error(outputs[label], reference[label]) for label in outputs}


def _install(built: Built, root: Path, calls: Mapping[str, Arguments], device: torch.device) -> None:
    if not built.packages:
        return
    index = device.index if device.type == "cuda" else -1
    loaded = [LoadedPackage(root / package.file, package, -1 if index is None else index) for package in built.packages]
    specs = {label: spec_of(call) for label, call in calls.items()}
    install(built.subject.denoiser, built.subject.components[built.subject.denoiser], loaded, specs)


def _check(built: Built) -> None:
    bounds = built.plan.recipe.header.verify
    for name, errors, bound in (
        ("max_relative_error", built.quantized_errors, bounds.max_relative_error),
        ("max_compiled_error", built.compiled_errors, bounds.max_compiled_error),
    ):
        for label, error in errors.items():
            if error != error or (bound is not None and error > bound):
                raise VerifyError(
                    f"verify.{name}: the relative error of {built.subject.denoiser} for {label} is {error:.4g}; the "
                    f"recipe allows {'finite values' if bound is None else f'{bound:g}'}. Nothing was put in place. "
                    "Exclude sensitive layers, choose a finer scheme, or widen the bound."
                )


def _write(built: Built, root: Path) -> None:
    subject = built.subject
    changed = _changed(built.plan)
    if subject.pipeline is None:
        _write_model(subject.components[subject.denoiser], root / subject.denoiser)
        return
    subject.pipeline.save_config(root)
    for name, part in subject.pipeline.components.items():
        if name in changed:
            _write_model(subject.components[name], root / name)
        elif part is not None:
            part.save_pretrained(root / name)


def _write_model(module: nn.Module, folder: Path) -> None:
    module.save_config(folder) if hasattr(module, "save_config") else module.config.save_pretrained(folder)  # type: ignore[operator,union-attr]
    write_tensors(module, folder)


def _changed(plan: Plan) -> set[str]:
    """Components that diffusers' own loader could not read back."""
    return {step.component for step in plan.recipe.steps if step.phase is not Phase.COMPILE} | (
        {plan.denoiser} if len(plan.components) == 1 else set()
    )


def _manifest(built: Built, device: torch.device) -> Manifest:
    plan, subject, header = built.plan, built.subject, built.plan.recipe.header
    owner = subject.pipeline if subject.pipeline is not None else subject.components[subject.denoiser]
    changed = _changed(plan)
    return Manifest(
        qcompile=__version__,
        recipe=RecipeRecord(name=header.name, version=header.version, sha256=plan.recipe.digest),
        model=ModelRecord(
            kind="model" if subject.pipeline is None else "pipeline",
            class_name=type(owner).__name__,
            id=header.model.id,
            revision=header.model.revision,
            dtype=header.model.dtype,
        ),
        environment=current(str(device)),
        denoiser=subject.denoiser,
        call=header.call,
        shapes={
            label: ShapeRecord(height=shape.height, width=shape.width, batch=shape.batch, frames=shape.frames)
            for label, shape in subject.shapes.items()
        },
        components={
            item.name: ComponentRecord(
                class_name=item.class_name,
                stored="qcompile" if item.name in changed else "diffusers",
                bytes_before=item.before,
                bytes_after=item.after,
            )
            for item in plan.components
        },
        changes=plan.changes,
        calls={label: spec_of(call) for label, call in subject.calls().items()},
        packages=tuple(built.packages),
        verification=Verification(
            quantized_relative_error=built.quantized_errors,
            compiled_relative_error=built.compiled_errors,
            image_psnr_db=built.image_psnr_db,
            seed=SEED,
        ),
        files={},
    )


def _device_of(pipeline: Any, model: nn.Module | None) -> torch.device:
    owner = model if model is not None else pipeline
    device = next(owner.parameters()).device if isinstance(owner, nn.Module) else owner.device
    return resolve_device(str(device))
