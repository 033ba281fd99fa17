"""Every recipe of the gallery with the family it is for, and what its plan must give at full size."""

from dataclasses import dataclass

from gallery.auraflow import AURAFLOW
from gallery.cogvideox import COGVIDEOX
from gallery.family import Family
from gallery.flux import FLUX_DEV, FLUX_SCHNELL
from gallery.flux2 import FLUX2
from gallery.hunyuan_video import HUNYUAN_VIDEO
from gallery.ltx import LTX
from gallery.pixart import PIXART
from gallery.qwen_image import QWEN_IMAGE
from gallery.sd3 import SD3
from gallery.sdxl import SDXL
from gallery.wan import WAN

FAMILIES = {
    "flux_dev": FLUX_DEV,
    "flux_schnell": FLUX_SCHNELL,
    "flux2": FLUX2,
    "sdxl": SDXL,
    "sd3": SD3,
    "pixart": PIXART,
    "cogvideox": COGVIDEOX,
    "wan": WAN,
    "ltx": LTX,
    "hunyuan_video": HUNYUAN_VIDEO,
    "qwen_image": QWEN_IMAGE,
    "auraflow": AURAFLOW,
}


@dataclass(frozen=True)
class Case:
    """One recipe."""

    recipe: str
    family: str
    layers: int
    """Layers of the denoiser that the plan quantizes: blocks times layers of each, for each class of blocks."""
    gigabytes: float
    """What the denoiser weighs afterwards, in 10^9 bytes."""

    overrides: tuple[str, ...] = ()
    """What the recipe leaves to be measured on the machine, decided."""
    compiled: bool = False
    """Whether its twin is compiled too. One recipe of a family is: the others give the same graphs, and each takes long."""

    @property
    def model(self) -> Family:
        """The family."""
        return FAMILIES[self.family]


CASES = (
    Case("flux_bf16", "flux_dev", 0, 23.803),
    Case("flux_int8", "flux_dev", 19 * 8 + 38 * 3, 15.206, compiled=True),
    Case("flux_fp8", "flux_dev", 19 * 8 + 38 * 3, 15.204),
    Case("flux_fp8_row", "flux_dev", 19 * 8 + 38 * 3, 15.204),
    Case(
        "flux_autoquant",
        "flux_dev",
        19 * 8 + 38 * 3,
        15.206,
        overrides=("steps.1.quantize.scheme=int8_dynamic", "steps.1.quantize.autoquant=null"),
    ),
    Case("flux_lora_int8", "flux_dev", 19 * 8 + 38 * 3, 15.206),
    Case("flux_schnell_fp8", "flux_schnell", 19 * 8 + 38 * 3, 15.184),
    Case("flux2_fp8", "flux2", 8 * 8 + 48 * 2, 33.056, compiled=True),
    Case("sdxl_bf16", "sdxl", 0, 5.135),
    Case("sdxl_int8", "sdxl", 60 * 6 + 10 + 6 * 2, 3.335, compiled=True),
    Case("sdxl_fp8", "sdxl", 70 * 7, 2.957),
    Case("sd3_int8", "sd3", 24 * 5 + 23 * 3, 2.835, compiled=True),
    Case("pixart_sigma_int8", "pixart", 28 * 7, 0.629, compiled=True),
    Case("cogvideox_5b_int8", "cogvideox", 42 * 4, 6.390, compiled=True),
    Case("cogvideox_5b_fp8_row", "cogvideox", 42 * 4, 6.389),
    Case("wan_fp8", "wan", 40 * 2, 22.975, compiled=True),
    Case("ltx_int8", "ltx", 28 * 10, 1.971, compiled=True),
    Case("hunyuan_video_fp8", "hunyuan_video", 20 * 12 + 40 * 5, 16.591, compiled=True),
    Case("qwen_image_fp8", "qwen_image", 60 * 11, 29.549, compiled=True),
    Case("auraflow_int8", "auraflow", 4 * 10 + 32 * 5, 9.194, compiled=True),
    Case("quanto_int8", "flux_dev", 19 * 12 + 38 * 5, 15.206),
)
