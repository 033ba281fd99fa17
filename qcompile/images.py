"""Painting with a subject's pipeline, and comparing pictures."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from qcompile.aside import aside, compiles_later
from qcompile.subject import Subject, quiet


@dataclass(frozen=True)
class Painted:
    """All that one call of a pipeline painted."""

    pictures: np.ndarray
    """Float [count, height, width, 3] from 0 to 1, or values that are not finite: images, or all videos' frames."""
    is_video: bool
    decoded_finite: bool
    """Whether what was decoded is finite: infinity is 0 or 1 once it is clamped to what a picture can hold."""

    @property
    def is_finite(self) -> bool:
        """Whether everything is, before and after the clamping."""
        return self.decoded_finite and bool(np.isfinite(self.pictures).all())


def paint(subject: Subject, label: str, seed: int) -> np.ndarray | None:
    """The first image of the recipe's call for one declared shape.

    Returns:
        uint8 [height, width, 3]; None for a bare model, and for pipelines whose output is no image.
    """
    painted = paint_all(subject, label, seed)
    return None if painted is None or painted.is_video else to_pixels(painted.pictures[0])


def paint_all(subject: Subject, label: str, seed: int) -> Painted | None:
    """Every image or frame of that call; None for a bare model, and for pipelines that paint neither."""
    if subject.pipeline is None:
        return None
    call = subject.arguments(label) | {"generator": torch.Generator("cpu").manual_seed(seed), "output_type": "np"}
    call.pop("return_dict", None)  # of artifacts that were made before plans refused it: a tuple names no images
    with quiet(subject.pipeline), torch.no_grad(), _room_to_decode(subject), _decoded(subject) as finite:
        result = subject.pipeline(**call)
    for name in ("images", "frames"):
        pictures = getattr(result, name, None)
        if pictures is not None:
            values = np.asarray(pictures)
            return Painted(values.reshape(-1, *values.shape[-3:]), name == "frames", all(finite))
    return None


@contextmanager
def _decoded(subject: Subject) -> Iterator[list[bool]]:
    """Whether each tensor that was decoded while the body ran is finite.

    Seen where pipelines hand it to what makes pictures of it, which works for compiled decoders too, and as it leaves
    decoders that are not compiled: the autoencoders of some videos clamp it themselves.
    """
    finite: list[bool] = []

    def look(decoded: Any) -> None:
        if isinstance(decoded, torch.Tensor):
            finite.append(bool(decoded.isfinite().all()))

    with ExitStack() as stack:
        for name in ("image_processor", "video_processor"):
            if hasattr(getattr(subject.pipeline, name, None), "postprocess"):
                stack.enter_context(_seen_before_postprocess(getattr(subject.pipeline, name), look))
        decoder = getattr(subject.components.get("vae"), "decoder", None)
        if isinstance(decoder, nn.Module) and not compiles_later(decoder):
            stack.callback(decoder.register_forward_hook(lambda _, __, output: look(output)).remove)
        yield finite


@contextmanager
def _seen_before_postprocess(processor: Any, look: Callable[[Any], None]) -> Iterator[None]:
    original, own = processor.postprocess, vars(processor).get("postprocess")

    def postprocess(decoded: Any, *args: Any, **kwargs: Any) -> Any:
        look(decoded)
        return original(decoded, *args, **kwargs)

    processor.postprocess = postprocess
    try:
        yield
    finally:
        if own is None:
            del processor.postprocess
        else:
            processor.postprocess = own


def _room_to_decode(subject: Subject) -> AbstractContextManager[None]:
    denoiser, decoder = subject.components[subject.denoiser], getattr(subject.components.get("vae"), "decoder", None)
    if subject.spares_memory_of is None or not isinstance(decoder, nn.Module):
        return nullcontext()
    if compiles_later(denoiser) or compiles_later(decoder):
        return nullcontext()
    return aside(denoiser, decoder, subject.spares_memory_of)


def count_painted(result: Any) -> int:
    """How many images, videos or pieces of sound a call of a pipeline gave: the first field of its output.

    Not the shape's batch: prompts may be a list, and num_images_per_prompt multiplies them.
    """
    return len(result[0])


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 as uint8."""
    return (values * 255).round().clip(0, 255).astype(np.uint8)


def save_png(image: np.ndarray, path: Path) -> None:
    """Write uint8 [height, width, 3] as a PNG file."""
    from PIL import Image

    Image.fromarray(image).save(path)


def psnr_db(image: np.ndarray, reference: np.ndarray) -> float | None:
    """Peak signal-to-noise ratio of two uint8 images in dB; None where they are equal (it would be infinite)."""
    error: Any = np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return None if error == 0 else float(10 * np.log10(255.0**2 / error))
