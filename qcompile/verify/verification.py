"""Artifact and control against the original, on the same inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qcompile import recipe as recipes
from qcompile.artifact.read import Artifact, read_artifact
from qcompile.devices import resolve_device
from qcompile.environment import current
from qcompile.errors import MachineError, ModelError, PlanError, VerifyError
from qcompile.header import Bounds
from qcompile.noise import quiet_libraries
from qcompile.progress import Progress, Silent, stage
from qcompile.quality.bounds import checks, refuse_unmeasurable
from qcompile.quality.reference import (
    Reference,
    errors_of,
    first_label,
    measure,
    outputs,
    refuse_not_finite,
    take_reference,
)
from qcompile.quality.tasks import NUM_SCORED, has_score, refuse_too_many, tasks_of, text_of, with_fitting_prompts
from qcompile.quality.trajectory import moved
from qcompile.recipe import Recipe
from qcompile.source import find_folder
from qcompile.steps import Phase
from qcompile.subject import Subject
from qcompile.verify.arms import (
    artifact_subject,
    carry_out,
    compile_steps,
    compiling,
    make_control,
    original_subject,
    release,
)
from qcompile.verify.perceptual import Metrics, open_metrics
from qcompile.verify.report import Arm, Report, SensitivityTable, Suggestion
from qcompile.verify.sensitivity import quantized_changes, sensitivity, take_layers
from qcompile.verify.suggestion import suggest

NUM_PROMPTS = 8
"""Images that are painted where neither the caller nor a bound asks for more."""


@dataclass(frozen=True)
class Request:
    """What `verify` is to do besides checking the bounds."""

    control: bool = True
    """Measure what compiling the original alone changes; it costs a compilation."""
    sensitivity: bool = False
    """Measure what each layer adds."""
    each: bool = False
    """Every layer by itself, instead of all layers of one role together."""
    suggest: bool = False
    """Say which layers to exclude to meet the bounds."""
    lpips: bool = False
    """LPIPS of the images, by torchmetrics."""
    clip: Path | None = None
    """Folder of a CLIP model: how well the images fit their prompts."""

    @property
    def looks_at_layers(self) -> bool:
        """Whether the original's layers are needed."""
        return self.sensitivity or self.each or self.suggest


@quiet_libraries()
def verify(
    path: str | Path,
    *,
    num_prompts: int | None = None,
    request: Request | None = None,
    bounds: Mapping[str, float] | None = None,
    original: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure how far an artifact is from the model it was made from, beside a control.

    The pipelines are loaded one after the other, so that the largest sets the memory needed.

    Args:
        path: an artifact folder made from a pipeline.
        num_prompts: images to paint with every arm; by default 8, and 101 where the task score has a bound.
        request: what to do besides; by default the control arm alone.
        bounds: in place of the recipe's bounds of these names.
        original: model to compare with instead of the one the manifest names.
        device: `cpu`, `cuda` or `cuda:N`; by default the kind the artifact was made on.
        progress: told what happens.

    Raises:
        ArtifactError, EnvironmentMismatch: as `load` does.
        ModelError: the original can't be loaded, or the artifact is a bare model.
        PlanError: a bound is on something that can't be measured here, or there are fewer prompts than asked for.
        MachineError: the control can't be compiled here, or a metric asked for can't be had.
        VerifyError: values are not finite, or an image is of one colour.
    """
    progress, request = progress or Silent(), request or Request()
    with stage(progress, "check digests"):
        artifact = read_artifact(Path(path).expanduser())
    manifest = artifact.manifest
    if manifest.model.kind != "pipeline":
        raise ModelError(
            f"{path} holds a bare {manifest.model.class_name}, which has no trajectory and paints no image. `apply` "
            "checked it on its example inputs; `qcompile inspect` shows the figures."
        )
    recipe = recipes.parse(artifact.recipe_text, f"{artifact.folder}/recipe.yaml")
    limits = Bounds.model_validate(recipe.header.verify.model_dump() | dict(bounds or {}))
    if request.looks_at_layers and not quantized_changes(recipe, manifest):
        raise PlanError(f"{path}: no layer of its {manifest.denoiser} is quantized, so that none adds any error.")
    model_id = original or manifest.model.id
    scored = has_score(manifest.model.id)
    refuse_unmeasurable(limits, True, True, scored)
    if "max_compiled_error" in (bounds or {}) and not compile_steps(recipe):
        raise PlanError("--bound max_compiled_error: the recipe compiles nothing. Take this bound out.")
    set_bounds = {key for key in Bounds.model_fields if getattr(limits, key) is not None}
    if request.suggest and not set_bounds - {"max_compiled_error"}:
        raise PlanError("--suggest: there is no bound to meet. Give one, for example --bound max_step_error=0.05.")
    if request.clip is not None and text_of(recipe.header.call.get("prompt")) is None:
        raise PlanError(
            f"--clip {request.clip}: the recipe's call has no prompt that an image could fit. Set call.prompt and "
            "apply the recipe again, or leave --clip out."
        )
    metrics = open_metrics(request.lpips, request.clip)
    where = resolve_device(device or manifest.environment.device)
    if original is None:
        folder = find_folder(model_id, manifest.model.revision)
    else:
        folder = find_folder(model_id, place="--original")
    run = _Run(artifact, recipe, limits, where, progress, request, metrics)

    count = num_prompts or (NUM_SCORED + 1 if limits.max_score_loss_points is not None else NUM_PROMPTS)
    refuse_too_many(manifest.model.id, count)
    with stage(progress, "load the original"):
        subject = original_subject(folder, recipe, manifest, where)
    with stage(progress, "original"):
        tasks = with_fitting_prompts(subject, tasks_of(manifest.model.id, subject.call, count))
        reference = take_reference(subject, tasks, scored)
    refuse_unmeasurable(limits, True, bool(reference.images), reference.score_percent is not None)
    arms, no_control = run.control(subject, reference)
    originals = run.original_layers(subject)
    shape = first_label(subject)
    del subject
    release()
    eager, table, suggestion, no_suggestion = run.eager(reference, originals)
    release()
    arms.append(run.artifact_arm(reference, eager))
    return Report(
        recipe=manifest.recipe.name,
        recipe_version=manifest.recipe.version,
        recipe_sha256=manifest.recipe.sha256,
        environment=current(str(where)),
        model=str(model_id),
        shape=shape,
        tasks=reference.tasks,
        trajectory=reference.trajectory,
        original_score_percent=reference.score_percent,
        arms=tuple(arms),
        no_control=no_control,
        checks=checks(limits, arms[-1].measured, manifest.denoiser),
        sensitivity=table,
        suggestion=suggestion,
        no_suggestion=no_suggestion,
    )


@dataclass(frozen=True)
class _Run:
    """The parts of one verification, in their order."""

    opened: Artifact
    recipe: Recipe
    limits: Bounds
    device: torch.device
    progress: Progress
    request: Request
    metrics: Metrics

    def control(self, subject: Subject, reference: Reference) -> tuple[list[Arm], str | None]:
        if not self.request.control:
            return [], "left out"
        try:
            with stage(self.progress, "control: compile the original"), compiling():
                make_control(self.recipe, subject)
                measured, images = measure(subject, reference, "the control's")
        except MachineError as error:
            if compile_steps(self.recipe):
                raise
            return [], str(error).rstrip(".")  # what is verified needs no compiler
        # Against its own eager run, which is the original.
        measured.compiled_errors = dict(measured.quantized_errors)
        label = f"{self.opened.manifest.model.dtype}, compiled"
        return [Arm("control", label, measured, self._perceptual(images, reference))], None

    def original_layers(self, subject: Subject) -> dict[str, Any]:
        if not self.request.looks_at_layers:
            return {}
        manifest = self.opened.manifest
        carry_out(self.recipe, manifest, subject, {Phase.REWRITE})
        return take_layers(subject.components[manifest.denoiser], quantized_changes(self.recipe, manifest))

    def eager(
        self, reference: Reference, originals: dict[str, Any]
    ) -> tuple[dict[str, Any], SensitivityTable | None, Suggestion | None, str | None]:
        """The artifact without compiled code: its outputs, what its layers add, which to exclude, or why none help."""
        manifest = self.opened.manifest
        if not (compile_steps(self.recipe) or originals):
            return {}, None, None, None
        with stage(self.progress, "artifact, without compiled code"):
            subject = artifact_subject(self.opened, self.recipe, self.device, compiled=False)
            denoiser = subject.components[subject.denoiser]
            computed = outputs(denoiser, reference.calls)
            # Here, where its layers can be told apart; compiled code shows as one module.
            refuse_not_finite(subject, reference.calls, computed, "the artifact's")
        if not originals:
            return moved(computed, torch.device("cpu")), None, None, None
        changes = quantized_changes(self.recipe, manifest)
        with stage(self.progress, f"sensitivity of {len(changes)} layers"):
            table = sensitivity(denoiser, originals, changes, reference.trajectory, self.request.each)
        suggestion, reason = None, None
        if self.request.suggest:
            with stage(self.progress, "suggest"):
                error = max(manifest.verification.compiled_relative_error.values(), default=0.0)
                try:
                    suggestion = suggest(
                        subject, originals, reference, table.rows, self.limits, error, self.recipe, manifest
                    )
                except VerifyError as missed:
                    # What was measured by now, and is measured next, tells which bound could be met.
                    reason = str(missed)
        return moved(computed, torch.device("cpu")), table, suggestion, reason

    def artifact_arm(self, reference: Reference, eager: dict[str, Any]) -> Arm:
        with stage(self.progress, "artifact"):
            subject = artifact_subject(self.opened, self.recipe, self.device, compiled=True)
            try:
                measured, images = measure(subject, reference, "the artifact's")
            except VerifyError as error:
                if not self.opened.manifest.packages:
                    raise
                del subject
                release()
                # Packages show as one module; without them the same calls tell which layer it is.
                subject = artifact_subject(self.opened, self.recipe, self.device, compiled=False)
                measure(subject, reference, "the artifact's")
                raise VerifyError(
                    f"{error} Without compiled code the fault is gone, so that its code makes it."
                ) from error
            if compile_steps(self.recipe):
                denoiser = subject.components[subject.denoiser]
                measured.compiled_errors = errors_of(denoiser, reference.calls, eager)
        return Arm("artifact", self.opened.manifest.recipe.name, measured, self._perceptual(images, reference))

    def _perceptual(self, images: tuple[np.ndarray, ...], reference: Reference) -> dict[str, float]:
        return self.metrics.figures(images, reference.images, reference.tasks)
