"""The sheet: every picture is on it, enlarged by a whole number, and long prompts do not run out of it."""

import numpy as np
import pytest
from PIL import Image

from qcompile.compare import Arm, Comparison
from qcompile.sheet import PAPER, draw


def comparison(count: int, size: tuple[int, int] = (128, 128), prompt: str = "a red circle") -> Comparison:
    def arm(name: str, first: int) -> Arm:
        images = tuple(Image.new("RGB", size, (first + index, 200, 3)) for index in range(count))
        return Arm(name, "label", images, (0.5,) * count, 0.1, 10_000_000, 1_000_000, None)

    return Comparison("builtin:flux-mini", (prompt,) * count, 0, arm("original", 10), arm("artifact", 100))


def area(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(sheet) == colour).all(-1).sum())


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_image_is_there_and_twice_as_large(count: int) -> None:
    sheet = draw(comparison(count))
    for index in range(count):
        assert area(sheet, (10 + index, 200, 3)) == 256 * 256
        assert area(sheet, (100 + index, 200, 3)) == 256 * 256


def test_the_original_stands_left_of_the_artifact() -> None:
    pixels = np.asarray(draw(comparison(1)))
    left = np.argwhere((pixels == (10, 200, 3)).all(-1))
    right = np.argwhere((pixels == (100, 200, 3)).all(-1))
    assert left[:, 1].max() < right[:, 1].min()
    assert left[:, 0].min() == right[:, 0].min()


def test_large_images_are_made_smaller_in_proportion() -> None:
    assert area(draw(comparison(1, size=(1024, 512))), (10, 200, 3)) == 240 * 120


@pytest.mark.parametrize("prompt", ["word " * 200, "x" * 400, "", "雪の上の赤い丸 🙂"])
def test_any_prompt_leaves_the_margin_free(prompt: str) -> None:
    sheet = np.asarray(draw(comparison(3, prompt=prompt)))
    assert (sheet[:, -8:] == PAPER).all()
    assert (sheet[-8:] == PAPER).all()
