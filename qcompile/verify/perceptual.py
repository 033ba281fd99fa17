"""LPIPS by torchmetrics and CLIP scores by transformers, where the weights are on this machine; nothing is fetched.

LPIPS: R. Zhang, P. Isola, A. A. Efros, E. Shechtman, O. Wang: The unreasonable effectiveness of deep features as a
perceptual metric, CVPR 2018. CLIP score: J. Hessel et al.: CLIPScore, EMNLP 2021.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qcompile.errors import MachineError, ModelError
from qcompile.quality.tasks import Task, text_of


@dataclass(frozen=True)
class Metrics:
    """The metrics asked for; None stands for one that was not."""

    lpips: Any = None
    clip: Any = None

    def figures(
        self, images: Sequence[np.ndarray], originals: Sequence[np.ndarray], tasks: Sequence[Task]
    ) -> dict[str, float]:
        """Medians over the images, uint8 [height, width, 3].

        LPIPS is a distance from the original's image, 0 where they are equal. The CLIP score, up to 100, says how well
        an image fits its prompt.
        """
        found = {}
        with torch.no_grad():
            if self.lpips is not None and images:
                pairs = zip(images, originals, strict=True)
                found["lpips"] = statistics.median(
                    float(self.lpips(_tensor(mine) / 255, _tensor(theirs) / 255)) for mine, theirs in pairs
                )
            if self.clip is not None and images:
                found["clip_score"] = statistics.median(
                    self.clip(image, str(text_of(task.prompt))) for image, task in zip(images, tasks, strict=True)
                )
        return found


def open_metrics(lpips: bool, clip: Path | None) -> Metrics:
    """Open what was asked for.

    Args:
        lpips: LPIPS with AlexNet.
        clip: folder of a CLIP model in transformers format.

    Raises:
        MachineError: a package or the weights are not there.
        ModelError: the folder holds no CLIP model.
    """
    return Metrics(_open_lpips() if lpips else None, _open_clip(clip) if clip is not None else None)


def _open_lpips() -> Any:
    _need("--lpips", "torchmetrics", "torchvision")
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    from torchvision.models import AlexNet_Weights

    url = AlexNet_Weights.IMAGENET1K_V1.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not file.is_file():
        raise MachineError(f"--lpips: AlexNet's weights are not here. Put {url} at {file}.")
    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).eval()


def _open_clip(folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"--clip {folder}: no config.json there. Name the folder of a CLIP model (transformers format)."
        )
    from transformers import CLIPModel, CLIPProcessor

    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"--clip {folder}: no CLIP model can be read from it: {str(error).splitlines()[0]}") from error

    def score(image: np.ndarray, prompt: str) -> float:
        # torchmetrics 1.9 has this score too, but does not work with transformers 5.
        inputs = processor(text=[prompt], images=[image], return_tensors="pt", truncation=True)
        output = model(**inputs)
        return 100 * max(float((output.image_embeds * output.text_embeds).sum()), 0.0)

    return score


def _need(option: str, *packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise MachineError(
            f"{option} needs {' and '.join(missing)}, not installed here: pip install {' '.join(missing)}."
        )


def _tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 [height, width, 3] as float [1, 3, height, width], values unchanged."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()
