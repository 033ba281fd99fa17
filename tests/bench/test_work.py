import torch
from torch import nn
from torch.nn import functional

from qcompile.bench.work import Attention, Convolution, work_of


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(x))
        heads = x.unflatten(-1, (2, 16)).transpose(1, 2)
        return functional.scaled_dot_product_attention(heads, heads, heads)


class Masked(nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, causal: bool) -> torch.Tensor:
        return functional.scaled_dot_product_attention(x, x, x, mask, is_causal=causal)


def test_every_linear_and_attention_call_is_counted_by_shape() -> None:
    work = work_of(Block(), {"x": torch.randn(3, 24, 32)})
    assert work.products == {(72, 32, 64): 1, (72, 64, 32): 1}
    assert work.attentions == {Attention((3, 2, 24, 16), (3, 2, 24, 16), (3, 2, 24, 16)): 1}
    assert not work.convolutions


def test_layers_called_by_keyword_are_counted() -> None:
    class ByKeyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.rows = nn.Conv2d(4, 8, 1), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rows(input=self.image(input=x).mean((2, 3)))

    work = work_of(ByKeyword(), {"x": torch.randn(3, 4, 5, 5)})
    assert work.products == {(3, 8, 2): 1}
    assert sum(work.convolutions.values()) == 1


def test_convolutions_are_counted_by_everything_that_decides_their_kernel() -> None:
    same = [nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)]
    work = work_of(nn.Sequential(*same), {"input": torch.randn(2, 8, 12, 12)})
    first = Convolution((2, 8, 12, 12), (16, 8, 3, 3), (2, 2), (1, 1), (1, 1), 1)
    second = Convolution((2, 16, 6, 6), (16, 16, 1, 1), (1, 1), (0, 0), (1, 1), 1)
    assert work.convolutions == {first: 1, second: 2}
    assert first.product is None
    assert second.product == (2 * 36, 16, 16)


def test_convolutions_that_are_no_single_product() -> None:
    for layer in (nn.Conv2d(8, 8, 1, stride=2), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 8, 1, padding=1)):
        (shape,) = work_of(nn.Sequential(layer), {"input": torch.randn(1, 8, 4, 4)}).convolutions
        assert shape.product is None
    for layer, x in ((nn.Conv1d(8, 4, 1), (1, 8, 5)), (nn.Conv3d(8, 4, 1, padding="same"), (1, 8, 1, 1, 5))):
        (shape,) = work_of(nn.Sequential(layer), {"input": torch.randn(x)}).convolutions
        assert shape.product == (5, 8, 4)


def test_masks_make_another_attention() -> None:
    x, sizes = torch.randn(1, 2, 4, 8), (1, 2, 4, 8)
    mask = torch.ones(1, 1, 1, 4, dtype=torch.bool).expand(1, 2, 4, 4)
    for call, wanted in (
        ({"mask": None, "causal": True}, Attention(sizes, sizes, sizes, causal=True)),
        ({"mask": mask, "causal": False}, Attention(sizes, sizes, sizes, (1, 1, 1, 4), mask_is_bool=True)),
        ({"mask": torch.zeros(4, 4), "causal": False}, Attention(sizes, sizes, sizes, (4, 4))),
    ):
        assert work_of(Masked(), {"x": x, **call}).attentions == {wanted: 1}
