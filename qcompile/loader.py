"""Artifact -> diffusers pipeline: no quantization, no compilation."""

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from accelerate import init_empty_weights
from torch import nn

from qcompile import recipe as recipes
from qcompile.aot.callspec import spec_of
from qcompile.aot.dispatch import OnUnknownShape, install
from qcompile.aot.options import check_options
from qcompile.aot.rehearse import rehearse
from qcompile.aot.runtime import LoadedPackage
from qcompile.artifact.manifest import HOSTILE, Manifest
from qcompile.artifact.read import MODEL_CARD, Artifact
from qcompile.artifact.stored import Ahead
from qcompile.artifact.tensors import read_tensors
from qcompile.deferred import deferred_imports
from qcompile.devices import device_of
from qcompile.environment import current, rejections
from qcompile.errors import ArtifactError, EnvironmentMismatch, ModelError, nearest
from qcompile.noise import quiet_libraries
from qcompile.package import CallSpec, Package
from qcompile.pipeline import Made, build_model, find_class, set_default_size
from qcompile.progress import Progress, Silent, stage
from qcompile.recipe import Recipe
from qcompile.source import component_classes
from qcompile.steps import Phase, Workshop
from qcompile.subject import subject_of_pipeline

OnMismatch = Literal["error", "recompile", "eager"]
"""What to do where packages were built for another machine or other versions."""


@quiet_libraries()
def load(
    artifact: Artifact,
    *,
    device: str | None = None,
    compiled: bool = True,
    on_mismatch: OnMismatch = "error",
    on_unknown_shape: OnUnknownShape = "error",
    progress: Progress | None = None,
    ahead: Mapping[str, Ahead] | None = None,
) -> Any:
    """Load an artifact that was read and verified; see `qcompile.opening.load`.

    `ahead` holds the files of components, by the component's name, where `qcompile.opening` read them ahead.
    """
    progress = progress or Silent()
    manifest = artifact.manifest
    where = device_of(manifest, device, compiled)
    rebuild = False
    if manifest.packages and compiled:
        compiled, rebuild = _decide(manifest, where, on_mismatch)
    recipe = recipes.parse(artifact.recipe_text, f"{artifact.folder}/recipe.yaml")
    with stage(progress, "load weights"):
        loaded = _load_pipeline(artifact, recipe, where, ahead or {})
    if manifest.model.kind == "pipeline":
        first = next(iter(manifest.shapes.values()))
        set_default_size(loaded, first.height, first.width)
    if rebuild:
        _recompile(recipe, manifest, loaded, where, on_unknown_shape, progress)
    elif manifest.packages and compiled:
        with stage(progress, "open packages"):
            _install(
                artifact.folder, manifest, manifest.packages, manifest.calls, loaded, where, on_unknown_shape, progress
            )
    for index, step in enumerate(recipe.steps):
        if compiled or step.phase is not Phase.COMPILE:
            step.prepare(_part(loaded, manifest, step.owner), recipe.inductor_options(index))
    return loaded


def import_classes(artifact: Artifact) -> None:
    """Import the classes that `load` will build. Where that can't be done, `load` says so in its turn."""
    names = [("diffusers", artifact.manifest.model.class_name)]
    with suppress(ModelError, RuntimeError, ImportError):
        if artifact.manifest.model.kind == "pipeline":
            names += component_classes(artifact.folder).values()
        for library, class_name in names:
            find_class(library, class_name)


def _decide(manifest: Manifest, device: torch.device, on_mismatch: OnMismatch) -> tuple[bool, bool]:
    """Whether to run compiled, and whether to compile anew."""
    found = rejections(manifest.environment, current(str(device)))
    if not found:
        return True, False
    if on_mismatch == "eager":
        return False, False
    if on_mismatch == "recompile":
        return True, True
    listed = "; ".join(f"{item.field}: built for {item.recorded}, here {item.here}" for item in found)
    raise EnvironmentMismatch(
        tuple(item.field for item in found),
        f"the packages of this artifact don't fit this machine: {listed}. Its weights do. Apply the recipe here, or "
        f"load with "
        'on_mismatch="recompile" (compiles at every load) or on_mismatch="eager".',
    )


def _load_pipeline(artifact: Artifact, recipe: Recipe, device: torch.device, ahead: Mapping[str, Ahead]) -> Any:
    manifest, folder = artifact.manifest, artifact.folder
    _check_owners(artifact, recipe)
    dtype = getattr(torch, manifest.model.dtype)

    def load_component(name: str, library: str, class_name: str) -> nn.Module:
        kind = find_class(library, class_name)
        return _load_component(recipe, name, kind, folder, dtype, device, ahead.get(name))

    own = [name for name, record in manifest.components.items() if record.stored == "qcompile"]
    if manifest.model.kind == "model":
        name = manifest.denoiser
        library = "diffusers" if hasattr(diffusers, manifest.model.class_name) else "transformers"
        return load_component(name, library, manifest.model.class_name)
    kind = _pipeline_class(artifact)
    classes = component_classes(folder)
    models = {name: load_component(name, *classes[name]) for name in own}
    # A scheduler imports all those that it could be exchanged for.
    with Made(folder, "diffusers can't load it"), deferred_imports():
        # Of the class itself: DiffusionPipeline's own from_pretrained does not see which components are optional, and
        # loads an optional one (Wan's transformer) from its folder although it is given here.
        pipeline = kind.from_pretrained(str(folder), dtype=dtype, local_files_only=True, use_safetensors=True, **models)
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            if any(tensor.is_meta for tensor in (*part.parameters(), *part.buffers())):
                raise ArtifactError("bad_tensors", f"{folder / name}: tensors of its model are not there. {HOSTILE}")
            part.requires_grad_(False).eval()
    return pipeline.to(device)


def _pipeline_class(artifact: Artifact) -> type[Any]:
    """The class of the artifact's pipeline.

    Raises:
        ArtifactError: it is no pipeline, or one that follows a file which is no part of the artifact.
    """
    name, card = artifact.manifest.model.class_name, artifact.folder / MODEL_CARD
    kind = find_class("diffusers", name)
    if not issubclass(kind, diffusers.DiffusionPipeline):
        raise ArtifactError("foreign_class", f"{artifact.folder}: {name} is no pipeline of diffusers. {HOSTILE}")
    if kind._load_connected_pipes and card.exists():
        raise ArtifactError(
            "extra_file",
            f"{card}: {name} would load the pipeline that this file names, which is no part of the artifact. Move the "
            "file elsewhere.",
        )
    return kind


def _load_component(
    recipe: Recipe,
    name: str,
    kind: type[Any],
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    ahead: Ahead | None,
) -> nn.Module:
    # Buffers that are not saved are computed by the constructor, so they must be real; parameters come from the file.
    module = build_model(kind, folder / name, dtype, lambda: init_empty_weights(include_buffers=False))
    for step in recipe.steps:
        if step.owner == name:
            step.restructure(module)
    read_tensors(module, folder / name, device, ahead)
    return module.to(device)


def _install(
    root: Path,
    manifest: Manifest,
    packages: tuple[Package, ...],
    denoiser_calls: Mapping[str, CallSpec],
    loaded: Any,
    device: torch.device,
    on_unknown_shape: OnUnknownShape,
    progress: Progress,
) -> None:
    index = device.index if device.type == "cuda" and device.index is not None else -1
    opened = [LoadedPackage(root / package.file, package, index) for package in packages]
    for name in dict.fromkeys(package.component for package in packages):
        own = [item for item in opened if item.package.component == name]
        calls = denoiser_calls if name == manifest.denoiser else None
        component = _part(loaded, manifest, name)
        install(name, component, own, calls, on_unknown_shape)
        for reason in rehearse(component, own, calls or {}):
            progress.note(f"{name}: the first step will take longer, since it could not be rehearsed for {reason}")


def _recompile(
    recipe: Recipe,
    manifest: Manifest,
    pipeline: Any,
    device: torch.device,
    on_unknown_shape: OnUnknownShape,
    progress: Progress,
) -> None:
    """Build packages for this machine into a temporary folder and install them, for this process only."""
    if manifest.model.kind == "model":
        raise EnvironmentMismatch(
            ("environment",),
            "a bare model has no pipeline to capture inputs from, so it can't be recompiled at load. Apply the recipe "
            "here, "
            'or load with on_mismatch="eager".',
        )
    subject = subject_of_pipeline(recipe, pipeline)
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(
            subject.calls(),
            Path(folder),
            progress,
            recipe.header.verify.max_compiled_error,
            pipeline=pipeline,
            part_calls=subject.part_calls,
        )
        for index, step in enumerate(recipe.steps):
            if step.phase is Phase.COMPILE and step.owner is not None:
                workshop.inductor = recipe.inductor_options(index)
                check_options(workshop.inductor, f"{step.kind} of {step.owner}: inductor.options")
                step.apply(_part(pipeline, manifest, step.owner), (), workshop)
        # The calls of this machine: those in the manifest name the device, and the libraries' inputs, of another.
        calls = {label: spec_of(call) for label, call in subject.calls().items()}
        _install(Path(folder), manifest, tuple(workshop.packages), calls, pipeline, device, on_unknown_shape, progress)


def _check_owners(artifact: Artifact, recipe: Recipe) -> None:
    """Refuse steps on what the artifact has no model of; an author may write any name, that of a method too.

    Raises:
        ArtifactError: naming the step and its component.
    """
    known = artifact.manifest.components
    for index, step in enumerate(recipe.steps):
        if step.owner is not None and step.owner not in known:
            raise ArtifactError(
                "bad_recipe",
                f"{artifact.folder}/recipe.yaml: steps.{index}.{step.kind}.component: the artifact has no model "
                f"{step.owner!r}; {nearest(step.owner, known)}. {HOSTILE}",
            )


def _part(loaded: Any, manifest: Manifest, owner: str | None) -> Any:
    """What a step acts on: a component of the pipeline, the pipeline, or the bare model.

    Raises:
        ArtifactError: what the manifest calls a model is none.
    """
    if owner is None or manifest.model.kind == "model":
        return loaded
    part = getattr(loaded, owner, None)
    if not isinstance(part, nn.Module):
        raise ArtifactError(
            "foreign_class",
            f"{owner} is {type(part).__name__} in this {type(loaded).__name__}; the manifest calls it a model. "
            f"{HOSTILE}",
        )
    return part
