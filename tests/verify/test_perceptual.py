"""CLIP scores with a tiny model of random weights, in the format of real ones; LPIPS with stand-ins."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qcompile.errors import MachineError, ModelError
from qcompile.quality.tasks import Task
from qcompile.verify.perceptual import Metrics, open_metrics


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    end = len(words) - 1
    config = CLIPConfig(
        text_config=size
        | {"vocab_size": len(words), "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end},
        vision_config=size | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_scores_depend_on_image_and_prompt(clip: Path) -> None:
    metrics = open_metrics(lpips=False, clip=clip)
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    grey = np.full_like(noise, 128)
    scores = [
        metrics.figures([image], [image], [Task(prompt, 0)])["clip_score"]
        for image, prompt in ((noise, "a"), (grey, "a"), (noise, "something else"))
    ]
    assert all(0 <= score <= 100 for score in scores)
    assert len(set(scores)) > 1
    # Of several prompts, the first is that of the first image.
    several = metrics.figures([noise], [noise], [Task(["a", "something else"], 0)])
    assert several == metrics.figures([noise], [noise], [Task("a", 0)])
    assert metrics.figures([], [], []) == {}


def test_nothing_is_measured_that_was_not_asked_for() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    assert open_metrics(lpips=False, clip=None) == Metrics()
    assert Metrics().figures([image], [image], [Task("a", 0)]) == {}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand-ins for torchmetrics and torchvision, whose wheels bring CUDA's torch; torch's own folder is elsewhere."""
    lpip = """
class LearnedPerceptualImagePatchSimilarity:
    def __init__(self, net_type, normalize):
        assert (net_type, normalize) == ("alex", True)  # normalize: values are 0 to 1, not -1 to 1
    def eval(self):
        return self
    def __call__(self, one, other):
        assert one.shape == other.shape == (1, 3, 4, 8) and one.min() >= 0 and one.max() <= 1
        return (one - other).abs().mean()
"""
    models = "class AlexNet_Weights:\n    class IMAGENET1K_V1:\n        url = 'https://example.org/alexnet-1.pth'\n"
    for name, text in {"torchmetrics/image/lpip.py": lpip, "torchvision/models.py": models}.items():
        file = tmp_path / "packages" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torchmetrics", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    yield tmp_path / "hub" / "checkpoints" / "alexnet-1.pth"
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torchmetrics", "torchvision")]:
        del sys.modules[name]


def test_lpips_is_a_distance_of_images(packages: Path) -> None:
    packages.parent.mkdir(parents=True)
    packages.touch()
    black, grey, white = (np.full((4, 8, 3), value, np.uint8) for value in (0, 51, 255))
    metrics = open_metrics(lpips=True, clip=None)
    tasks = [Task("a", 0)] * 3
    assert metrics.figures([grey], [grey], tasks[:1]) == {"lpips": 0}
    assert metrics.figures([black, grey, white], [black] * 3, tasks)["lpips"] == pytest.approx(0.2)


def test_weights_of_lpips_are_not_fetched(packages: Path) -> None:
    with pytest.raises(MachineError, match="Put https://example.org/alexnet-1.pth at .*checkpoints/alexnet-1.pth"):
        open_metrics(lpips=True, clip=None)


def test_a_folder_without_a_clip_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ModelError, match="no CLIP model can be read"):
        open_metrics(lpips=False, clip=tmp_path)
