"""Painting with a subject's pipeline, and comparing pictures."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from qcompile.aside import aside, compiles_later
from qcompile.subject import Subject, quiet


def paint(subject: Subject, label: str, seed: int) -> np.ndarray | None:
    """The first image of the recipe's call for one declared shape.

    Returns:
        uint8 [height, width, 3]; None for a bare model, and for pipelines whose output is no image.
    """
    values = paint_values(subject, label, seed)
    return None if values is None else to_pixels(values)


def paint_values(subject: Subject, label: str, seed: int) -> np.ndarray | None:
    """The same as the pipeline gives it: float [height, width, 3] from 0 to 1, or values that are not finite."""
    if subject.pipeline is None:
        return None
    call = subject.arguments(label) | {"generator": torch.Generator("cpu").manual_seed(seed), "output_type": "np"}
    with quiet(subject.pipeline), torch.no_grad(), _room_to_decode(subject):
        result = subject.pipeline(**call)
    images = getattr(result, "images", None)
    if images is None:
        return None
    return np.asarray(images[0])


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
