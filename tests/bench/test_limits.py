from collections import Counter

import torch
from torch import nn
from torch.nn import functional

from qcompile.bench.limits import Work, ceilings, limit_of, work_of

CPU = torch.device("cpu")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(x))
        heads = x.unflatten(-1, (2, 16)).transpose(1, 2)
        return functional.scaled_dot_product_attention(heads, heads, heads)


def test_every_linear_and_attention_call_is_counted_by_shape() -> None:
    work = work_of(Block(), {"x": torch.randn(3, 24, 32)})
    assert work.products == Counter({(72, 32, 64): 1, (72, 64, 32): 1})
    assert work.attentions == Counter({((3, 2, 24, 16), (3, 2, 24, 16)): 1})


def test_twice_the_work_is_about_twice_the_limit() -> None:
    once = Work(Counter({(512, 512, 512): 1}), Counter())
    many = Work(Counter({(512, 512, 512): 10}), Counter({((1, 2, 64, 16), (1, 2, 64, 16)): 1}))
    low, high = (limit_of(work, CPU, torch.float32) for work in (once, many))
    assert high.product_ms > low.product_ms > 0
    assert low.attention_ms == 0 < high.attention_ms
    assert high.total_ms == high.product_ms + high.attention_ms


def test_heads_that_share_their_keys() -> None:
    assert (
        limit_of(Work(Counter(), Counter({((1, 8, 32, 16), (1, 2, 32, 16)): 1})), CPU, torch.float32).attention_ms > 0
    )


def test_ceilings_name_every_arithmetic() -> None:
    found = ceilings(CPU, torch.float32)
    assert {"product_float32", "product_int8", "copy"} <= found.keys()
    assert all(value > 0 for value in found.values())
