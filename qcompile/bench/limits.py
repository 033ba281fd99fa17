"""What the machine could do at best: the ceilings of its arithmetic and memory, and the limit L of one step.

L is the sum over every linear of a step of the fastest matrix product at its exact shape, among those the arms could
use, plus the fastest attention at each attention call's exact shape. No arm that computes the same step gets below it
without leaving work out, so L / step says how much of a step is something else.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from qcompile.bench.timing import Timed, time_in_turn
from qcompile.modules import linears
from qcompile.progress import Silent

CALLS = 20
COPIED_BYTES = 2**29
SIDE = {"cuda": 8192, "cpu": 1024}
"""Rows, columns and depth of the square product that ceilings are measured with."""


@dataclass(frozen=True)
class Work:
    """What one step asks of the machine, with how often."""

    products: Counter[tuple[int, int, int]]
    """(rows, in, out) of every linear."""
    attentions: Counter[tuple[tuple[int, ...], tuple[int, ...]]]
    """Shapes of queries and keys, [batch, heads, tokens, width]."""


@dataclass(frozen=True)
class Limit:
    """The limit of one step, in milliseconds."""

    product_ms: float
    attention_ms: float

    @property
    def total_ms(self) -> float:
        """L."""
        return self.product_ms + self.attention_ms


def work_of(model: nn.Module, call: Mapping[str, Any]) -> Work:
    """Run one step and count its linears and attention calls by shape."""
    work = Work(Counter(), Counter())

    def count(layer: nn.Linear) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            rows = args[0].numel() // max(layer.in_features, 1)
            work.products[rows, layer.in_features, layer.out_features] += 1

        return hook

    hooks = [layer.register_forward_pre_hook(count(layer)) for layer in linears(model).values()]
    try:
        with torch.no_grad(), _AttentionCounter(work.attentions):
            model(**call)
    finally:
        for hook in hooks:
            hook.remove()
    return work


class _AttentionCounter(TorchFunctionMode):
    def __init__(self, counter: Counter[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            query = args[0] if args else given["query"]
            key = args[1] if len(args) > 1 else given["key"]
            self._counter[tuple(query.shape), tuple(key.shape)] += 1
        return func(*args, **given)


def limit_of(work: Work, device: torch.device, dtype: torch.dtype) -> Limit:
    """Measure L: the best product and the best attention at each shape."""
    products = sum(times * min(_products(*shape, device, dtype).values()) for shape, times in work.products.items())
    attentions = sum(
        times * min(_attentions(*shapes, device, dtype).values()) for shapes, times in work.attentions.items()
    )
    return Limit(products, attentions)


def ceilings(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """TFLOP/s of a large square product in each arithmetic that the device has, and GB/s of a copy (read and write)."""
    side = SIDE[device.type]
    found = {
        f"product_{name}": 2 * side**3 / (ms * 1e-3) / 1e12
        for name, ms in _products(side, side, side, device, dtype).items()
    }
    source = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    ms = _best({"copy": lambda: target.copy_(source)}, device)["copy"]
    return found | {"copy": 2 * COPIED_BYTES / (ms * 1e-3) / 1e9}


def _products(rows: int, inside: int, out: int, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Milliseconds of [rows, in] x [in, out] by arithmetic, for those the device and shape allow."""
    x = torch.randn(rows, inside, device=device, dtype=dtype)
    weight = torch.randn(out, inside, device=device, dtype=dtype)
    calls: dict[str, Callable[[], Any]] = {str(dtype).removeprefix("torch."): lambda: functional.linear(x, weight)}
    if rows > 16 and inside % 8 == 0 and out % 8 == 0:
        small, packed = x.clamp(-3, 3).mul(40).to(torch.int8), weight.clamp(-3, 3).mul(40).to(torch.int8).t()
        calls["int8"] = lambda: torch._int_mm(small, packed)
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9) and inside % 16 == out % 16 == 0:
        eight, other = x.to(torch.float8_e4m3fn), weight.to(torch.float8_e4m3fn).t()
        one = torch.ones((), device=device)
        calls["float8"] = lambda: torch._scaled_mm(eight, other, one, one, out_dtype=torch.bfloat16)
    return _best(calls, device)


def _attentions(
    query: tuple[int, ...], key: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = (torch.randn(shape, device=device, dtype=dtype) for shape in (query, key, key))
    # Several heads of queries may share one of keys.
    shared = len(query) > 2 and query[-3] != key[-3]

    def run(backend: SDPBackend) -> Callable[[], Any]:
        def call() -> Any:
            with sdpa_kernel(backend):
                return functional.scaled_dot_product_attention(q, k, v, enable_gqa=shared)

        return call

    kinds = [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]
    if device.type == "cuda":
        kinds = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    calls = {}
    for kind in kinds:
        try:
            run(kind)()
        except RuntimeError:  # this implementation does not take these shapes
            continue
        calls[kind.name] = run(kind)
    return _best(calls or {"math": run(SDPBackend.MATH)}, device)


def _best(calls: Mapping[str, Callable[[], Any]], device: torch.device) -> dict[str, float]:
    """Fastest of a few calls each, in milliseconds: a limit is what the machine can do, not what it mostly does."""
    rounds = time_in_turn({name: Timed(call) for name, call in calls.items()}, CALLS, 3, device, Silent())
    return {name: min(values) for name, values in rounds.ms.items() if values}
