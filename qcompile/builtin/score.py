# SPDX-License-Identifier: Apache-2.0
"""Scores pictures against their captions without any model: colour masks, connected regions, and measures of their
outline."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qcompile.builtin.captions import COLOURS, Caption
from qcompile.builtin.outline import measure, shape_of
from qcompile.builtin.render import LARGE_RADIUS, PALETTE, REFERENCE_SIDE, SMALL_RADIUS

MIN_REGION = 0.0025
"""Regions smaller than this part of the picture are specks, not things."""
LARGEST_SMALL = (SMALL_RADIUS[1] + LARGE_RADIUS[0]) / 2

Image = np.ndarray


@dataclass(frozen=True)
class Found:
    """One thing seen in a picture."""

    colour: str
    shape: str
    centre: tuple[float, float]
    """x and y in pixels."""
    radius: float
    """Of the renderer's shape with this extent, in pixels of a picture with a shorter side of 128."""


@dataclass(frozen=True)
class Score:
    """What is right in one picture. None where the caption says nothing of it."""

    background_colour: bool
    object_colour: bool
    """All things have their colours, and there is none too many or too few."""
    shape: bool
    relation: bool | None
    size: bool | None

    @property
    def all_right(self) -> bool:
        """Whether nothing is wrong."""
        return all(value is not False for value in vars(self).values())


@dataclass(frozen=True)
class Totals:
    """Fractions of pictures, from 0 to 1, over those whose caption says something of it."""

    background_colour: float
    object_colour: float
    shape: float
    relation: float
    size: float
    all_right: float
    count: int


def score_image(image: Image, caption: Caption) -> Score:
    """Score one picture, uint8 [height, width, 3] in sRGB, against its caption."""
    background, things = look(image)
    wanted = caption.things
    if len(things) != len(wanted):
        return Score(
            background_colour=background == caption.background,
            object_colour=False,
            shape=False,
            relation=None if caption.relation is None else False,
            size=None if wanted[0].size is None else False,
        )
    ordered = _in_order(things, caption)
    return Score(
        background_colour=background == caption.background,
        object_colour=all(seen.colour == thing.colour for seen, thing in zip(ordered, wanted, strict=True)),
        shape=all(seen.shape == thing.shape for seen, thing in zip(ordered, wanted, strict=True)),
        relation=None if caption.relation is None else _relation_holds(ordered, caption.relation),
        size=None if wanted[0].size is None else _size_of(ordered[0]) == wanted[0].size,
    )


def score_images(images: Sequence[Image], captions: Sequence[Caption]) -> Totals:
    """Score pictures and add up."""
    return total([score_image(image, caption) for image, caption in zip(images, captions, strict=True)])


def total(scores: Sequence[Score]) -> Totals:
    """Add up scores to fractions."""

    def part(values: Iterable[bool | None]) -> float:
        said = [value for value in values if value is not None]
        return sum(said) / len(said) if said else float("nan")

    return Totals(
        background_colour=part(score.background_colour for score in scores),
        object_colour=part(score.object_colour for score in scores),
        shape=part(score.shape for score in scores),
        relation=part(score.relation for score in scores),
        size=part(score.size for score in scores),
        all_right=part(score.all_right for score in scores),
        count=len(scores),
    )


def look(image: Image) -> tuple[str, list[Found]]:
    """The background's colour and the things in a picture, largest first."""
    nearest = nearest_colours(image)
    border = np.concatenate([nearest[0], nearest[-1], nearest[:, 0], nearest[:, -1]])
    background = int(np.bincount(border, minlength=len(COLOURS)).argmax())
    unit = min(image.shape[:2]) / REFERENCE_SIDE
    things = []
    for colour in range(len(COLOURS)):
        if colour == background:
            continue
        regions, count = ndimage.label(nearest == colour, structure=np.ones((3, 3)))
        for index, where in enumerate(ndimage.find_objects(regions), start=1):
            mask = np.pad(regions[where] == index, 1)
            if count and mask.sum() >= MIN_REGION * nearest.size and _is_solid(mask):
                outline = measure(mask)
                centre = (where[1].start - 1 + outline.centre[0], where[0].start - 1 + outline.centre[1])
                things.append(Found(COLOURS[colour], shape_of(outline), centre, outline.radius / unit))
    return COLOURS[background], sorted(things, key=lambda thing: -thing.radius)


def nearest_colours(image: Image) -> np.ndarray:
    """Index of the palette's nearest colour for every pixel: [height, width]."""
    palette = np.array([PALETTE[name] for name in COLOURS], dtype=np.int32)
    differences = image[:, :, None, :].astype(np.int32) - palette
    indices: np.ndarray = (differences**2).sum(-1).argmin(-1)
    return indices


def _is_solid(mask: np.ndarray) -> bool:
    """Whether a region has an inside. The blend of two colours along an edge can be nearest to a third, but it is a
    line."""
    return bool(ndimage.binary_erosion(mask, iterations=2).any())


def _size_of(thing: Found) -> str:
    return "large" if thing.radius > LARGEST_SMALL else "small"


def _in_order(things: list[Found], caption: Caption) -> list[Found]:
    """Things in the caption's order: matched by colour and shape where these differ, else by where they are."""
    if len(things) == 1:
        return things
    first, second = caption.things

    def fits(one: Found, other: Found) -> int:
        pairs = ((one, first), (other, second))
        return sum((seen.colour == thing.colour) * 2 + (seen.shape == thing.shape) for seen, thing in pairs)

    straight, swapped = fits(things[0], things[1]), fits(things[1], things[0])
    if straight == swapped:
        axis = 0 if caption.relation == "left of" else 1
        return sorted(things, key=lambda thing: thing.centre[axis])
    return things if straight > swapped else things[::-1]


def _relation_holds(things: list[Found], relation: str) -> bool:
    right = things[1].centre[0] - things[0].centre[0]
    down = things[1].centre[1] - things[0].centre[1]
    return right > abs(down) if relation == "left of" else down > abs(right)
