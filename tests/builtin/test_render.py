import pytest
import torch

from qcompile.builtin.captions import COLOURS, SHAPES, Caption, Thing, sample_captions
from qcompile.builtin.render import PALETTE, caption_table, coverage, place, render_captions


def test_pictures_are_seeded_and_in_range() -> None:
    captions = sample_captions(8, seed=0)
    one = render_captions(captions, height=96, width=160, seed=1)
    assert one.shape == (8, 3, 96, 160)
    assert torch.equal(one, render_captions(captions, height=96, width=160, seed=1))
    assert not torch.equal(one, render_captions(captions, height=96, width=160, seed=2))
    assert one.min() >= -1
    assert one.max() <= 1


def test_colours_are_those_of_the_palette() -> None:
    image = render_captions([Caption("green", (Thing("white", "square", "large"),))])[0]
    corner = ((image[:, 0, 0] + 1) * 127.5).round().int().tolist()
    assert tuple(corner) == PALETTE["green"]
    white = ((image + 1) * 127.5).round().int().permute(1, 2, 0).reshape(-1, 3).unique(dim=0).tolist()
    assert list(PALETTE["white"]) in white


@pytest.mark.parametrize("size", [(128, 128), (96, 192)])
def test_things_lie_wholly_inside_and_apart(size: tuple[int, int]) -> None:
    captions = sample_captions(300, seed=5)
    scenes = place(caption_table(captions), *size, torch.Generator().manual_seed(0))
    cover = torch.zeros(300, *size)
    for index in range(2):
        present = scenes.shape[:, index] >= 0
        one = coverage(scenes.shape[:, index].clamp(min=0), scenes.centre[:, index], scenes.radius[:, index], *size)
        cover += torch.where(present[:, None, None], one, 0.0)
    border = torch.cat([cover[:, 0], cover[:, -1], cover[:, :, 0], cover[:, :, -1]], dim=1)
    assert border.max() == 0
    assert cover.max() <= 1.0 + 1e-5


def test_shapes_cover_what_their_geometry_says() -> None:
    side, radius = 256, 80.0
    centre = torch.full((len(SHAPES), 2), side / 2)
    areas = coverage(torch.arange(len(SHAPES)), centre, torch.full((len(SHAPES),), radius), side, side).sum((1, 2))
    found = dict(zip(SHAPES, areas.tolist(), strict=True))
    assert found["circle"] == pytest.approx(torch.pi * radius**2, rel=0.01)
    assert found["square"] == pytest.approx((1.6 * radius) ** 2, rel=0.01)
    assert found["ring"] == pytest.approx(torch.pi * radius**2 * (1 - 0.55**2), rel=0.01)
    assert found["cross"] == pytest.approx(radius**2 * (2 * 4 * 0.32 - 4 * 0.32**2), rel=0.02)
    assert found["star"] < found["circle"]
    assert found["triangle"] == pytest.approx(0.75 * 3**0.5 * (1.15 * radius) ** 2, rel=0.02)
    assert len(COLOURS) == len(PALETTE)
