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
    """Layers of the denoiser that the plan quantizes."""
    gigabytes: float
    """What the denoiser weighs afterwards, in 10^9 bytes."""

    @property
    def model(self) -> Family:
        """The family."""
        return FAMILIES[self.family]


CASES = (
    Case("flux_int8", "flux_dev", 266, 15.206),
    Case("flux_fp8", "flux_dev", 266, 15.204),
    Case("flux_fp8_row", "flux_dev", 266, 15.204),
    Case("flux_lora_int8", "flux_dev", 266, 15.206),
    Case("flux_schnell_fp8", "flux_schnell", 266, 15.184),
    Case("flux2_fp8", "flux2", 160, 33.056),
    Case("sdxl_int8", "sdxl", 382, 3.335),
    Case("sdxl_fp8", "sdxl", 490, 2.957),
    Case("sd3_int8", "sd3", 189, 2.835),
    Case("pixart_sigma_int8", "pixart", 196, 0.629),
    Case("cogvideox_5b_int8", "cogvideox", 168, 6.390),
    Case("cogvideox_5b_fp8_row", "cogvideox", 168, 6.389),
    Case("wan_fp8", "wan", 160, 18.785),
    Case("ltx_int8", "ltx", 280, 1.971),
    Case("hunyuan_video_fp8", "hunyuan_video", 440, 16.591),
    Case("qwen_image_fp8", "qwen_image", 660, 29.549),
    Case("auraflow_int8", "auraflow", 200, 9.194),
    Case("quanto_int8", "flux_dev", 418, 15.206),
)
