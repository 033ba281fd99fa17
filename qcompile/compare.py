"""Original against artifact: the same prompts with the same seeds, and how long each takes."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from qcompile.artifact.manifest import Manifest
from qcompile.artifact.read import read_artifact
from qcompile.builtin.captions import Caption, parse_caption
from qcompile.devices import resolve_device
from qcompile.errors import ModelError, PlanError
from qcompile.modules import stored_bytes
from qcompile.noise import quiet_libraries
from qcompile.opening import load
from qcompile.pipeline import OUTPUT_OPTIONS, find_class, load_pipeline, models_of, set_default_size
from qcompile.progress import Progress, Silent, stage
from qcompile.source import BUILTIN, component_classes, find_folder, model_index
from qcompile.subject import quiet

FLUX_MINI_PROMPTS = (
    "a large red circle on a white background",
    "a small yellow star on a blue background",
    "a green triangle on a black background",
    "a large purple ring on an orange background",
    "a blue cross left of a red square on a white background",
    "a white star above a green circle on a purple background",
    "a black triangle left of an orange ring on a yellow background",
    "a red square above a white cross on a black background",
)
"""What the embedded model is asked for where no prompt is given: every colour, every shape and both relations."""


@dataclass(frozen=True)
class Arm:
    """One of the two pipelines that are compared, and what it painted."""

    name: str
    """`original` or `artifact`."""
    label: str
    """What it is, for people: `bfloat16, eager` or the recipe's name."""
    images: tuple[Image.Image, ...]
    """One a prompt."""
    seconds: tuple[float, ...]
    """Seconds for each image, from prompt to pixels."""
    load_seconds: float
    weight_bytes: int
    package_bytes: int
    num_right: int | None
    """Images that show what their caption says, for the embedded model; None for all others."""

    @property
    def seconds_per_image(self) -> float:
        """The median."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Comparison:
    """The same prompts painted by the original and by the artifact."""

    model: str
    """The original's id."""
    prompts: tuple[str, ...]
    seed: int
    original: Arm
    artifact: Arm

    @property
    def speedup(self) -> float:
        """How many times the artifact is as fast as the original."""
        return self.original.seconds_per_image / self.artifact.seconds_per_image


@quiet_libraries()
def compare(
    path: str | Path,
    *,
    prompts: Sequence[str] = (),
    seed: int = 0,
    num_inference_steps: int | None = None,
    original: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Paint the same prompts with an artifact and with the model it was made from.

    The two take turns, so that a machine that slows down slows both. Each paints one more image first, which is not
    timed.

    Args:
        path: an artifact folder made from a pipeline.
        prompts: what to paint; by default eight captions for the embedded model, the recipe's own for all others.
        seed: of the first prompt's noise; every prompt has the next one.
        num_inference_steps: instead of the recipe's.
        original: model to compare with instead of the one the manifest names.
        device: `cpu`, `cuda` or `cuda:N`; by default the kind the artifact was made on.
        progress: told what happens.

    Raises:
        ArtifactError, EnvironmentMismatch: as `load` does.
        ModelError: the original can't be loaded, or the artifact is a bare model, which paints nothing by itself.
        PlanError: no prompt is given and the recipe has none.
    """
    progress = progress or Silent()
    artifact = read_artifact(Path(path).expanduser())
    manifest = artifact.manifest
    if manifest.model.kind != "pipeline":
        raise ModelError(
            f"{path} holds a bare {manifest.model.class_name}, which paints no image by itself; nothing to compare."
        )
    chosen = tuple(prompts) or default_prompts(manifest)
    call, batch = call_of(manifest, num_inference_steps)
    where = resolve_device(device or manifest.environment.device)
    if original is None:
        folder = find_folder(manifest.model.id, manifest.model.revision)
    else:
        folder = find_folder(original, place="--original")
    _import_classes(folder)
    with stage(progress, "load the original"):
        plain = _Painter(lambda: _load_original(folder, manifest, where), call, batch)
    with stage(progress, "load the artifact"):
        small = _Painter(lambda: load(path, device=str(where)), call, batch)
    with stage(progress, "first images, not timed"):
        for painter in (plain, small):
            painter.paint(chosen[0], seed)
    for index, prompt in enumerate(chosen):
        with stage(progress, f"image {index + 1} of {len(chosen)}"):
            for painter in (plain, small):
                painter.keep(prompt, seed + index)
    captions = _captions(manifest, chosen)
    return Comparison(
        original or manifest.model.id or str(folder),
        chosen,
        seed,
        plain.arm("original", f"{manifest.model.dtype}, eager", 0, captions),
        small.arm("artifact", manifest.recipe.name, artifact.package_bytes, captions),
    )


def default_prompts(manifest: Manifest) -> tuple[str, ...]:
    """What an artifact's model is asked for where no prompt is given.

    Raises:
        PlanError: the recipe's call has no prompt.
    """
    if manifest.model.id == BUILTIN + "flux-mini":
        return FLUX_MINI_PROMPTS
    prompt = manifest.call.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) else prompt if isinstance(prompt, list) else []
    if not prompts:
        raise PlanError("--prompt: the artifact's recipe has no prompt in its call; give one or more.")
    return tuple(str(text) for text in prompts)


def call_of(manifest: Manifest, num_inference_steps: int | None = None) -> tuple[dict[str, Any], int]:
    """Arguments of the pipeline's call without the prompt, for a shape the artifact has packages for, and its batch.

    The shape is the first of batch 1, or the first of all where none is.
    """
    shape = next(
        (shape for shape in manifest.shapes.values() if shape.batch == 1), next(iter(manifest.shapes.values()))
    )
    call: dict[str, Any] = {
        name: value for name, value in manifest.call.items() if name not in ("prompt", *OUTPUT_OPTIONS)
    }
    sizes = {"height": shape.height, "width": shape.width, "num_frames": shape.frames}
    call |= {name: value for name, value in sizes.items() if value is not None}
    if num_inference_steps is not None:
        call["num_inference_steps"] = num_inference_steps
    if shape.batch > 1 and isinstance(call.get("negative_prompt"), str):
        call["negative_prompt"] = [call["negative_prompt"]] * shape.batch
    return call, shape.batch


class _Painter:
    """A loaded pipeline and what it has painted so far."""

    def __init__(self, load_pipeline: Callable[[], Any], call: dict[str, Any], batch: int) -> None:
        started = time.perf_counter()
        self.pipeline = load_pipeline()
        self.load_seconds = time.perf_counter() - started
        self.call, self.batch = call, batch
        self.images: list[Image.Image] = []
        self.seconds: list[float] = []

    def paint(self, prompt: str, seed: int) -> Image.Image:
        generator = torch.Generator("cpu").manual_seed(seed)
        text = prompt if self.batch == 1 else [prompt] * self.batch
        with quiet(self.pipeline), torch.no_grad():
            output = self.pipeline(**self.call, prompt=text, generator=generator)
        if not hasattr(output, "images"):
            raise ModelError(
                f"{type(self.pipeline).__name__} gives back no images; only pipelines that paint can be compared."
            )
        return output.images[0]  # type: ignore[no-any-return]

    def keep(self, prompt: str, seed: int) -> None:
        started = time.perf_counter()
        self.images.append(self.paint(prompt, seed))
        self.seconds.append((time.perf_counter() - started) / self.batch)

    def arm(self, name: str, label: str, package_bytes: int, captions: Sequence[Caption]) -> Arm:
        return Arm(
            name=name,
            label=label,
            images=tuple(self.images),
            seconds=tuple(self.seconds),
            load_seconds=self.load_seconds,
            weight_bytes=sum(stored_bytes(model) for model in models_of(self.pipeline).values()),
            package_bytes=package_bytes,
            num_right=_num_right(self.images, captions) if captions else None,
        )


def _captions(manifest: Manifest, prompts: Sequence[str]) -> tuple[Caption, ...]:
    """The prompts as captions that pictures can be scored against; none where the model or a prompt is another."""
    if manifest.model.id != BUILTIN + "flux-mini":
        return ()
    try:
        return tuple(parse_caption(prompt) for prompt in prompts)
    except ValueError:
        return ()


def _num_right(images: Sequence[Image.Image], captions: Sequence[Caption]) -> int:
    from qcompile.builtin.score import score_image

    pairs = zip(images, captions, strict=True)
    return sum(score_image(np.asarray(image.convert("RGB")), caption).all_right for image, caption in pairs)


def _load_original(folder: Path, manifest: Manifest, device: torch.device) -> Any:
    pipeline = load_pipeline(folder, getattr(torch, manifest.model.dtype), device)
    first = next(iter(manifest.shapes.values()))
    set_default_size(pipeline, first.height, first.width)
    return pipeline


def _import_classes(folder: Path) -> None:
    """diffusers imports a pipeline's classes when they are first asked for; that is no part of loading a model."""
    for library, class_name in component_classes(folder).values():
        find_class(library, class_name)
    find_class("diffusers", model_index(folder)["_class_name"])
