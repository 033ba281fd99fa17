# SPDX-License-Identifier: Apache-2.0
"""Which of the six shapes a region is, from its area, extent, hole, and how far its outline is from its centre all
round."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qcompile.builtin.captions import SHAPES
from qcompile.builtin.render import REACH, RING_HOLE, SQUARE_HALF_SIDE, coverage

DIRECTIONS = 72
"""The outline is measured every five degrees."""
REACHES = {
    "circle": 1.0,
    "ring": 1.0,
    "square": SQUARE_HALF_SIDE,
    "cross": 1.0,
    "triangle": REACH * 0.8660254,
    "star": REACH * 0.9510565,
}
"""Half the width of each shape in radii."""


@dataclass(frozen=True)
class Outline:
    """Measures of one region. Lengths in pixels."""

    centre: tuple[float, float]
    """x and y of the centroid of the region with its holes filled."""
    radius: float
    """Half the larger side of its bounding box."""
    area: float
    """Part of the bounding box covered, holes filled."""
    hole: float
    """Part of the filled region that is hole."""
    profile: np.ndarray
    """[DIRECTIONS] distance from the centre to the outline, clockwise from the right, divided by its mean."""


def measure(mask: np.ndarray) -> Outline:
    """Measure a region, bool [height, width] with a border of False."""
    filled = ndimage.binary_fill_holes(mask)
    rows, columns = np.nonzero(filled)
    centre = (float(columns.mean()) + 0.5, float(rows.mean()) + 0.5)
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    profile = _profile(filled, centre)
    return Outline(
        centre=centre,
        radius=max(width, height) / 2,
        area=filled.sum() / (width * height),
        hole=1 - mask.sum() / filled.sum(),
        profile=profile / profile.mean(),
    )


def shape_of(outline: Outline) -> str:
    """The shape whose measures are nearest."""
    return min(SHAPES, key=lambda name: _distance(outline, _TEMPLATES[name]))


def _distance(one: Outline, other: Outline) -> float:
    profiles = float(np.sqrt(np.mean((one.profile - other.profile) ** 2)))
    # A hole is the one thing that tells a ring from a circle; a speck of another colour inside must not.
    return profiles + abs(one.area - other.area) + 2 * abs(min(one.hole, RING_HOLE**2) - other.hole)


def _profile(filled: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """Distance of the outline from the centre in each direction: the furthest point of the region on that ray."""
    longest = int(np.hypot(*filled.shape)) + 1
    along = np.arange(0, longest, 0.5)
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    xs = np.floor(centre[0] + np.cos(angles)[:, None] * along).astype(int)
    ys = np.floor(centre[1] + np.sin(angles)[:, None] * along).astype(int)
    inside = (xs >= 0) & (ys >= 0) & (xs < filled.shape[1]) & (ys < filled.shape[0])
    hit = np.zeros(inside.shape, dtype=bool)
    hit[inside] = filled[ys[inside], xs[inside]]
    return np.asarray((hit * along).max(axis=1) + 0.25)


def _templates(radius: float = 40.0, side: int = 104) -> dict[str, Outline]:
    """Measures of the renderer's own shapes."""
    import torch

    centre = torch.full((len(SHAPES), 2), side / 2)
    masks = coverage(torch.arange(len(SHAPES)), centre, torch.full((len(SHAPES),), radius), side, side) > 0.5
    return {name: measure(np.pad(mask.numpy(), 1)) for name, mask in zip(SHAPES, masks, strict=True)}


_TEMPLATES = _templates()
