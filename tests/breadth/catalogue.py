"""Every transformer and UNet class that diffusers exports: a shrunken case of it, or why it has none."""

import inspect

import diffusers
from diffusers import models
from torch import nn

from breadth import audio, cogview, cross, flux, image, joint_video, protein, unet, video, wan
from breadth.case import Case

CASES: dict[str, Case] = {
    name: case
    for family in (flux, image, cogview, cross, video, joint_video, wan, audio, unet, protein)
    for name, case in family.CASES.items()
}

REASONS = {
    "DualTransformer2DModel": "two Transformer2DModel in one, a part of UNets; diffusers itself does not export it, so "
    "no pipeline holds it",
    "MiniMaxMusic3RVQDepthDecoder": "writes codes one after the other; no denoiser",
    "MotionAdapter": "holds weights for UNetMotionModel; its forward does nothing",
    "WanAnimate2Transformer3DModel": "its forward takes a cache object and fills it; compiled code takes tensors, "
    "numbers, strings and containers of them",
}
"""Exported classes without a case."""


def exported() -> list[str]:
    """Names of the module classes that are called Transformer or UNet, or live in diffusers' folders of those.

    Only these are imported: loading all that diffusers exports takes half a minute.
    """
    named = {name for name in {*dir(diffusers), *dir(models)} if "Transformer" in name or "UNet" in name}
    placed = {name for name, place in models._class_to_module.items() if place.startswith(("transformers.", "unets."))}
    kinds = {name: getattr(diffusers, name, None) or getattr(models, name) for name in named | placed}
    return sorted(name for name, kind in kinds.items() if inspect.isclass(kind) and issubclass(kind, nn.Module))
