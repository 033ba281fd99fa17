from collections import Counter

import pytest
import torch

from qcompile.bench import limits
from qcompile.bench.limits import ceilings, limit_of
from qcompile.bench.work import Attention, Convolution, Work

CPU = torch.device("cpu")
SIZES = (1, 2, 64, 16)


def limit(**work: Counter) -> limits.Limit:
    return limit_of(Work(**work), CPU, torch.float32)


def test_twice_the_work_is_about_twice_the_limit() -> None:
    low = limit(products=Counter({(512, 512, 512): 1}))
    high = limit(products=Counter({(512, 512, 512): 10}), attentions=Counter({Attention(SIZES, SIZES, SIZES): 1}))
    assert high.product_ms > low.product_ms > 0
    assert low.attention_ms == 0 < high.attention_ms
    assert high.total_ms == high.product_ms + high.attention_ms


@pytest.mark.parametrize(
    "attention",
    [
        Attention((1, 8, 32, 16), (1, 2, 32, 16), (1, 2, 32, 16)),
        Attention((1, 8, 32, 16), (1, 8, 48, 16), (1, 8, 48, 24), mask=(1, 1, 1, 48), mask_is_bool=True),
        Attention((1, 8, 32, 16), (1, 8, 48, 16), (1, 8, 48, 16), mask=(32, 48)),
        Attention((1, 8, 32, 16), (1, 8, 32, 16), (1, 8, 32, 16), causal=True),
    ],
    ids=["shared keys", "bool mask", "mask", "causal"],
)
def test_attention_of_every_kind(attention: Attention) -> None:
    assert limit(attentions=Counter({attention: 1})).attention_ms > 0


@pytest.mark.parametrize(
    "convolution",
    [
        Convolution((1, 8, 32), (8, 8, 3), (1,), (1,), (1,), 1),
        Convolution((1, 8, 32, 32), (16, 2, 3, 3), (2, 2), (1, 1), (1, 1), 4),
        Convolution((1, 8, 4, 8, 8), (8, 8, 3, 3, 3), (1, 1, 1), "same", (1, 1, 1), 1),
    ],
    ids=["1d", "2d", "3d"],
)
def test_convolutions_are_part_of_the_limit(convolution: Convolution) -> None:
    once = limit(convolutions=Counter({convolution: 1}))
    assert once.total_ms == once.convolution_ms > 0
    assert limit(convolutions=Counter({convolution: 100})).convolution_ms > 10 * once.convolution_ms


def test_the_best_layout_or_product_of_a_convolution_counts() -> None:
    found = limits._convolutions(
        Convolution((1, 32, 16, 16), (32, 32, 1, 1), (1, 1), (0, 0), (1, 1), 1), CPU, torch.float32
    )
    assert {"channels_first", "channels_last", "float32", "int8"} <= found.keys()


def test_the_search_for_convolutions_is_put_back() -> None:
    before = torch.backends.cudnn.benchmark
    with limits._longest_search():
        assert torch.backends.cudnn.benchmark is True
    assert torch.backends.cudnn.benchmark is before


def test_a_kernel_that_the_libraries_have_not_is_left_out() -> None:
    def refuse() -> None:
        raise RuntimeError("not implemented for these sizes")

    assert limits._best({"none": refuse, "one": lambda: None}).keys() == {"one"}
    with pytest.raises(RuntimeError, match="not implemented"):
        limits._best({"none": refuse})


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to …"),
    ],
    ids=["GPU", "CPU"],
)
def test_memory_that_ran_out_is_no_missing_kernel(error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the limit would be that of slower kernels, and nobody would be told."""
    refused: list[object] = []

    def refuse(*given: object, **_: object) -> None:
        refused.append(given)
        raise error

    with pytest.raises(RuntimeError) as caught:
        limits._best({"one": lambda: None, "large": refuse})
    assert caught.value is error
    refused.clear()
    monkeypatch.setattr(limits.functional, "scaled_dot_product_attention", refuse)
    with pytest.raises(RuntimeError) as caught:
        limits._attentions(Attention(SIZES, SIZES, SIZES), CPU, torch.float32)
    assert caught.value is error
    assert len(refused) == 1


def test_ceilings_name_every_arithmetic() -> None:
    found = ceilings(CPU, torch.float32)
    assert {"product_float32", "product_int8", "copy"} <= found.keys()
    assert all(value > 0 for value in found.values())
