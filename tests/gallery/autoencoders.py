"""The image autoencoder that several families share, at published size and shrunken."""

from collections.abc import Mapping
from typing import Any

from gallery.family import Part

TINY = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 16,
}


def kl(full: Mapping[str, Any], tiny: Mapping[str, Any] | None = None) -> Part:
    """An `AutoencoderKL` of four levels, as Stable Diffusion has it, with what a family has otherwise."""
    shared = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": 1024,
    }
    return Part("AutoencoderKL", {**shared, **full}, {**TINY, **(tiny or {})})


def sdxl(force_upcast: bool = True, tiny: Mapping[str, Any] | None = None) -> Part:
    """The autoencoder of stabilityai/stable-diffusion-xl-base-1.0; PixArt-Sigma and AuraFlow carry it too."""
    return kl({"latent_channels": 4, "scaling_factor": 0.13025, "force_upcast": force_upcast}, tiny)
