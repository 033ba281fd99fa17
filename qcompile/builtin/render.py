# SPDX-License-Identifier: Apache-2.0
"""Captions to pictures: draws what a caption says, in batches and on any device. Training data and ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qcompile.builtin.captions import COLOURS, RELATIONS, SHAPES, SIZES, Caption

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (215, 30, 40),
    "green": (40, 165, 70),
    "blue": (35, 70, 225),
    "yellow": (250, 230, 50),
    "purple": (150, 40, 190),
    "orange": (245, 130, 20),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
}
"""sRGB values; the closest two, orange and red, lie 106 apart."""

REFERENCE_SIDE = 128
"""Radii and margins below are pixels in a picture whose shorter side has this many; others scale with it."""
SMALL_RADIUS = (15.0, 19.0)
LARGE_RADIUS = (34.0, 42.0)
PAIR_RADIUS = (15.0, 23.0)
MARGIN = 4.0
PAIR_GAP = 6.0

REACH = 1.15
"""No shape reaches further from its centre, along x or y, than this many radii."""
SQUARE_HALF_SIDE = 0.8
CROSS_HALF_WIDTH = 0.32
RING_HOLE = 0.55
STAR_SHARPNESS = 0.45

NO_SIZE, NO_RELATION, NO_THING = -1, -1, -1


@dataclass(frozen=True)
class Scenes:
    """A batch of B placed captions; every tensor on one device. `colour` and `shape` index COLOURS and SHAPES.

    Attributes:
        background: [B] colour indices.
        colour: [B, 2] colour indices; a missing second thing has -1.
        shape: [B, 2] shape indices; a missing second thing has -1.
        centre: [B, 2, 2] x and y in pixels.
        radius: [B, 2] pixels.
    """

    background: Tensor
    colour: Tensor
    shape: Tensor
    centre: Tensor
    radius: Tensor


def caption_table(captions: Sequence[Caption]) -> Tensor:
    """Captions as integers, [N, 7]: background, relation, size, colour, shape, second colour, second shape."""
    rows = []
    for caption in captions:
        first, *rest = caption.things
        rows.append(
            [
                COLOURS.index(caption.background),
                NO_RELATION if caption.relation is None else RELATIONS.index(caption.relation),
                NO_SIZE if first.size is None else SIZES.index(first.size),
                COLOURS.index(first.colour),
                SHAPES.index(first.shape),
                COLOURS.index(rest[0].colour) if rest else NO_THING,
                SHAPES.index(rest[0].shape) if rest else NO_THING,
            ]
        )
    return torch.tensor(rows, dtype=torch.long)


def place(table: Tensor, height: int, width: int, generator: torch.Generator) -> Scenes:
    """Give every thing of `table` ([B, 7], see `caption_table`) a random radius and place, wholly inside the picture.

    `generator` must live on the table's device.
    """
    unit = min(height, width) / REFERENCE_SIDE
    uniform = torch.rand(len(table), 9, generator=generator, device=table.device)
    size = table[:, 2]
    low = torch.where(size == SIZES.index("large"), LARGE_RADIUS[0], SMALL_RADIUS[0])
    high = torch.where(size == SIZES.index("small"), SMALL_RADIUS[1], LARGE_RADIUS[1])
    alone_radius = (low + (high - low) * uniform[:, 0]) * unit
    reach = (REACH * alone_radius + MARGIN * unit)[:, None]
    frame = torch.tensor([width, height], device=table.device, dtype=torch.float32)
    alone_centre = reach + (frame - 2 * reach) * uniform[:, 1:3]

    pair_radius = (PAIR_RADIUS[0] + (PAIR_RADIUS[1] - PAIR_RADIUS[0]) * uniform[:, 3:5]) * unit
    side_by_side = _place_pair(pair_radius, float(width), float(height), unit, uniform[:, 5:])
    stacked = _place_pair(pair_radius, float(height), float(width), unit, uniform[:, 5:]).flip(-1)
    left_of = table[:, 1] == RELATIONS.index("left of")
    pair_centre = torch.where(left_of[:, None, None], side_by_side, stacked)

    alone = table[:, 1] == NO_RELATION
    return Scenes(
        background=table[:, 0],
        colour=table[:, [3, 5]],
        shape=table[:, [4, 6]],
        centre=torch.where(alone[:, None, None], alone_centre[:, None, :], pair_centre),
        radius=torch.where(alone[:, None], alone_radius[:, None], pair_radius),
    )


def _place_pair(radius: Tensor, length: float, breadth: float, unit: float, uniform: Tensor) -> Tensor:
    """Centres of two things along an axis of `length`, the first before the second: [B, 2 things, (along, across)]."""
    reach = REACH * radius
    border = reach + MARGIN * unit
    slack = (length - border.sum(1) - reach.sum(1) - PAIR_GAP * unit).clamp(min=0.0)
    ordered = uniform[:, :2].sort(dim=1).values
    along_first = border[:, 0] + slack * ordered[:, 0]
    along_second = length - border[:, 1] - slack * (1 - ordered[:, 1])
    across_first = border[:, 0] + (breadth - 2 * border[:, 0]) * uniform[:, 2]
    wobble = uniform[:, 3] - 0.5
    # At most half as far across as along, so that nobody could say "above" where the caption says "left of".
    across_second = across_first + wobble * (along_second - along_first)
    across_second = torch.maximum(torch.minimum(across_second, breadth - border[:, 1]), border[:, 1])
    first = torch.stack([along_first, across_first], dim=1)
    second = torch.stack([along_second, across_second], dim=1)
    return torch.stack([first, second], dim=1)


def render(scenes: Scenes, height: int, width: int) -> Tensor:
    """Draw `scenes`, antialiased: [B, 3, height, width], values from -1 to 1."""
    device = scenes.background.device
    palette = torch.tensor([PALETTE[name] for name in COLOURS], device=device, dtype=torch.float32) / 127.5 - 1
    image = palette[scenes.background][:, :, None, None].expand(-1, -1, height, width)
    for index in range(2):
        present = (scenes.shape[:, index] >= 0)[:, None, None]
        cover = coverage(
            scenes.shape[:, index].clamp(min=0), scenes.centre[:, index], scenes.radius[:, index], height, width
        )
        cover = torch.where(present, cover, 0.0)[:, None]
        colour = palette[scenes.colour[:, index].clamp(min=0)][:, :, None, None]
        image = image + cover * (colour - image)
    return image


def coverage(shape: Tensor, centre: Tensor, radius: Tensor, height: int, width: int) -> Tensor:
    """How much of each pixel a shape covers, [B, height, width] from 0 to 1, for [B] shapes, [B, 2] centres, [B]
    radii."""
    ys = torch.arange(height, device=centre.device, dtype=torch.float32) + 0.5
    xs = torch.arange(width, device=centre.device, dtype=torch.float32) + 0.5
    x = xs[None, None, :] - centre[:, 0, None, None]
    y = ys[None, :, None] - centre[:, 1, None, None]
    r = radius[:, None, None]
    distances = torch.stack([distance(name, x, y, r) for name in SHAPES])
    chosen = distances.gather(0, shape[None, :, None, None].expand(1, -1, height, width))[0]
    return (0.5 - chosen).clamp(0.0, 1.0)


def distance(shape: str, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Signed distance in pixels from a shape's outline, negative inside; x to the right and y down from its centre.

    Source of the star: Inigo Quilez, https://iquilezles.org/articles/distfunctions2d/ (sdStar5).
    """
    if shape == "circle":
        return (x * x + y * y).sqrt() - radius
    if shape == "ring":
        from_centre = (x * x + y * y).sqrt()
        return torch.maximum(from_centre - radius, RING_HOLE * radius - from_centre)
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - SQUARE_HALF_SIDE * radius
    if shape == "triangle":
        inner = REACH * radius / 2
        return torch.maximum(y - inner, x.abs() * 0.8660254 - y / 2 - inner)
    if shape == "cross":
        bar = torch.maximum(x.abs() - radius, y.abs() - CROSS_HALF_WIDTH * radius)
        post = torch.maximum(x.abs() - CROSS_HALF_WIDTH * radius, y.abs() - radius)
        return torch.minimum(bar, post)
    if shape == "star":
        return _star_distance(x, y, REACH * radius)
    raise ValueError(f"{shape!r} is no shape; known: {', '.join(SHAPES)}")


def _star_distance(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    fold_x, fold_y = 0.809016994375, -0.587785252292
    x, y = torch.broadcast_tensors(x.abs(), -y)
    for mirror_x in (fold_x, -fold_x):
        beyond = 2 * (mirror_x * x + fold_y * y).clamp(min=0.0)
        x, y = x - beyond * mirror_x, y - beyond * fold_y
    x, y = x.abs(), y - radius
    edge_x, edge_y = -STAR_SHARPNESS * fold_y, STAR_SHARPNESS * fold_x - 1
    along = (x * edge_x + y * edge_y) / (edge_x * edge_x + edge_y * edge_y)
    along = torch.minimum(along.clamp(min=0.0), radius)
    off_x, off_y = x - edge_x * along, y - edge_y * along
    return (off_x * off_x + off_y * off_y).sqrt() * torch.sign(y * edge_x - x * edge_y)


def render_captions(
    captions: Sequence[Caption], *, height: int = 128, width: int = 128, seed: int = 0, device: str = "cpu"
) -> Tensor:
    """Pictures of `captions` at random places: [len(captions), 3, height, width], values from -1 to 1."""
    generator = torch.Generator(device).manual_seed(seed)
    return render(place(caption_table(captions).to(device), height, width, generator), height, width)
