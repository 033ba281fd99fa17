"""The scorer against pictures whose content is known: the renderer's own, and ones with one planted mistake."""

import dataclasses

import numpy as np
import pytest

from qcompile.builtin.captions import COLOURS, SHAPES, Caption, Thing, parse_caption, sample_captions
from qcompile.builtin.render import PALETTE, render_captions
from qcompile.builtin.score import look, nearest_colours, score_image, score_images


def pictures(
    captions: list[Caption] | tuple[Caption, ...], height: int = 128, width: int = 128, seed: int = 0
) -> list[np.ndarray]:
    images = render_captions(captions, height=height, width=width, seed=seed)
    return list(((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize(("height", "width"), [(128, 128), (96, 96), (192, 192), (96, 160), (192, 128)])
def test_ground_truth_is_scored_right(height: int, width: int) -> None:
    captions = sample_captions(150, seed=height + width)
    totals = score_images(pictures(captions, height, width, seed=7), captions)
    for name in ("background_colour", "object_colour", "shape", "relation", "size"):
        assert getattr(totals, name) >= 0.99, (name, totals)
    assert totals.count == 150


def test_noise_as_a_model_leaves_it_does_not_matter() -> None:
    captions = sample_captions(100, seed=4)
    noise = np.random.default_rng(0).normal(0, 6, (100, 128, 128, 3))
    noisy = [
        np.clip(image + extra, 0, 255).astype(np.uint8) for image, extra in zip(pictures(captions), noise, strict=True)
    ]
    assert score_images(noisy, captions).all_right >= 0.97


ONE = parse_caption("a large red circle on a blue background")
TWO = parse_caption("a red ring left of a white star on a black background")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("caption", "painted", "wrong"),
    [
        (ONE, dataclasses.replace(ONE, background="green"), {"background_colour"}),
        (ONE, dataclasses.replace(ONE, things=(Thing("yellow", "circle", "large"),)), {"object_colour"}),
        (ONE, dataclasses.replace(ONE, things=(Thing("red", "ring", "large"),)), {"shape"}),
        (ONE, dataclasses.replace(ONE, things=(Thing("red", "square", "large"),)), {"shape"}),
        (ONE, dataclasses.replace(ONE, things=(Thing("red", "circle", "small"),)), {"size"}),
        (TWO, dataclasses.replace(TWO, things=TWO.things[::-1]), {"relation"}),
        (TWO, dataclasses.replace(TWO, relation="above"), {"relation"}),
        (TWO, dataclasses.replace(TWO, things=(Thing("red", "ring"), Thing("white", "cross"))), {"shape"}),
    ],
)
def test_one_mistake_is_found_and_nothing_else(caption: Caption, painted: Caption, wrong: set[str], seed: int) -> None:
    (image,) = pictures([painted], seed=seed)
    score = score_image(image, caption)
    assert {name for name, value in vars(score).items() if value is False} == wrong


def test_missing_and_extra_things_are_found() -> None:
    (one,) = pictures([parse_caption("a red ring on a black background")])
    score = score_image(one, TWO)
    assert (score.object_colour, score.shape, score.relation, score.background_colour) == (False, False, False, True)
    (two,) = pictures([TWO])
    score = score_image(two, parse_caption("a red ring on a black background"))
    assert (score.object_colour, score.shape) == (False, False)
    blank = np.full((128, 128, 3), PALETTE["black"], np.uint8)
    assert not score_image(blank, TWO).object_colour


def test_colours_and_shapes_are_named() -> None:
    palette = np.array([[PALETTE[name] for name in COLOURS]], np.uint8)
    assert nearest_colours(palette).tolist() == [list(range(len(COLOURS)))]
    for shape in SHAPES:
        (image,) = pictures([Caption("white", (Thing("purple", shape),))])
        background, (thing,) = look(image)
        assert (background, thing.colour, thing.shape) == ("white", "purple", shape)


def test_equal_things_are_told_by_their_places() -> None:
    caption = parse_caption("a red star above a red star on a white background")
    assert score_image(pictures([caption])[0], caption).all_right
    beside = parse_caption("a red star left of a red star on a white background")
    assert score_image(pictures([beside])[0], caption).relation is False
