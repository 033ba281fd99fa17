"""What a recipe made of its subject, and how that becomes the files of an artifact."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from qcompile.aot.callspec import spec_of
from qcompile.artifact.manifest import (
    RECIPE,
    ComponentRecord,
    Manifest,
    ModelRecord,
    RecipeRecord,
    ShapeRecord,
    Verification,
)
from qcompile.artifact.tensors import SHARD_BYTES, write_tensors
from qcompile.environment import current
from qcompile.package import Package
from qcompile.planner import Plan
from qcompile.quality.bounds import Measured
from qcompile.steps import Phase
from qcompile.subject import SEED, Subject
from qcompile.version import __version__


@dataclass
class Built:
    """A subject after the recipe, and what was measured on the way."""

    plan: Plan
    subject: Subject
    packages: list[Package] = field(default_factory=list)
    measured: Measured = field(default_factory=Measured)


def write_built(built: Built, root: Path, comment: str = "") -> None:
    """Write the weights, configurations and recipe of what was built to `root`.

    Args:
        built: what was built.
        root: the artifact folder being written.
        comment: lines of YAML comment above the recipe.

    Raises:
        ArtifactError: a weight has no safetensors form.
    """
    (root / RECIPE).write_text(comment + built.plan.recipe.to_yaml(), encoding="utf-8")
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
            options = {"max_shard_size": SHARD_BYTES} if isinstance(part, nn.Module) else {}
            part.save_pretrained(root / name, **options)


def _write_model(module: nn.Module, folder: Path) -> None:
    module.save_config(folder) if hasattr(module, "save_config") else module.config.save_pretrained(folder)  # type: ignore[operator,union-attr]
    write_tensors(module, folder)


def _changed(plan: Plan) -> set[str]:
    """Components that diffusers' own loader could not read back."""
    kinds = {step.kind for step in plan.recipe.steps if step.phase is not Phase.COMPILE}
    found = {change.component for change in plan.changes if change.kind in kinds}
    return found | ({plan.denoiser} if len(plan.components) == 1 else set())


def manifest_of(built: Built, device: torch.device) -> Manifest:
    """The manifest of what was built on `device`, without the files' digests."""
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
            dtype=subject.dtype,  # a live model has its own, whatever the recipe says
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
            quantized_relative_error=built.measured.quantized_errors,
            compiled_relative_error=built.measured.compiled_errors,
            image_psnr_db=built.measured.psnr_db[0] if built.measured.psnr_db else None,
            seed=SEED,
            step_relative_error=built.measured.step_errors,
            image_ssim=built.measured.ssim[0] if built.measured.ssim else None,
            score_loss_points=built.measured.score_loss_points
            if header.verify.max_score_loss_points is not None
            else None,
        ),
        files={},
    )
