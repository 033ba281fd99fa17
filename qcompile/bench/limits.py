"""What the machine could do at best: the ceilings of its arithmetic and memory, and the limit L of one step.

L is the sum over every linear of a step of the fastest matrix product at its exact shape, in any arithmetic that the
device has, plus the fastest convolution and the fastest attention at each exact shape. L / step says how much of a step
is something else.

What L does not hold: everything between (normalization, activations, quantizing activations, copies), attention that is
not `scaled_dot_product_attention`, transposed convolutions, and linears that are no `nn.Linear`. Kernels are those of
the libraries: cuBLAS and cuDNN on a GPU, with channels first and last, and torch's own elsewhere. Triton's templates
are not searched, since that takes a compilation for every shape and arithmetic: where one of them beats the libraries,
or a step does without arithmetic that the original does (a mask of nothing but ones, say), a step can get below L, and
the record says so.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.utils.benchmark import Timer

from qcompile.bench.faults import lacks_memory
from qcompile.bench.work import Attention, Convolution, Work

MIN_SECONDS = 0.05
"""How long each kernel is timed at least."""
COPIED_BYTES = 2**29
SIDE = {"cuda": 8192, "cpu": 1024}
"""Rows, columns and depth of the square product that ceilings are measured with."""
_CONVOLVE = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Limit:
    """The limit of one step, in milliseconds."""

    product_ms: float
    convolution_ms: float
    attention_ms: float

    @property
    def total_ms(self) -> float:
        """L."""
        return self.product_ms + self.convolution_ms + self.attention_ms


def limit_of(work: Work, device: torch.device, dtype: torch.dtype) -> Limit:
    """Measure L: the best product, convolution and attention at each shape."""
    return Limit(
        sum(times * min(_products(*shape, device, dtype).values()) for shape, times in work.products.items()),
        sum(times * min(_convolutions(shape, device, dtype).values()) for shape, times in work.convolutions.items()),
        sum(times * min(_attentions(shape, device, dtype).values()) for shape, times in work.attentions.items()),
    )


def ceilings(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """TFLOP/s of a large square product in each arithmetic that the device has, and GB/s of a copy (read and write)."""
    side = SIDE[device.type]
    found = {
        f"product_{name}": 2 * side**3 / (ms * 1e-3) / 1e12
        for name, ms in _products(side, side, side, device, dtype).items()
    }
    source = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    ms = _best({"copy": lambda: target.copy_(source)})["copy"]
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
        # As torchao calls it: sums are kept in fewer bits, which Hopper does faster.
        calls["float8"] = lambda: torch._scaled_mm(
            eight, other, one, one, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    return _best(calls)


def _convolutions(shape: Convolution, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Milliseconds by layout; where the convolution is one matrix product, those of the product, too."""
    convolve, dimensions = _CONVOLVE[len(shape.weight)], len(shape.weight)
    x = torch.randn(shape.input, device=device, dtype=dtype)
    weight = torch.randn(shape.weight, device=device, dtype=dtype)

    def run(x: torch.Tensor, weight: torch.Tensor) -> Callable[[], Any]:
        return lambda: convolve(x, weight, None, shape.stride, shape.padding, shape.dilation, shape.groups)

    calls = {"channels_first": run(x, weight)}
    if dimensions in _CHANNELS_LAST and x.dim() == dimensions:
        layout = _CHANNELS_LAST[dimensions]
        calls["channels_last"] = run(x.to(memory_format=layout), weight.to(memory_format=layout))
    with _longest_search():
        found = _best(calls)
    return found | (_products(*shape.product, device, dtype) if shape.product else {})


@contextmanager
def _longest_search() -> Iterator[None]:
    """cuDNN tries all its convolutions, instead of guessing which is fast."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _attentions(shape: Attention, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Milliseconds by implementation, for those that take the shape."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    query, key, value = (
        torch.randn(sizes, device=device, dtype=dtype) for sizes in (shape.query, shape.key, shape.value)
    )
    # Several heads of queries may share one of keys.
    shared = len(shape.query) > 2 and shape.query[-3] != shape.key[-3]
    mask = None
    if shape.mask is not None:
        whole = (*shape.query[:-1], shape.key[-2])[-len(shape.mask) :]
        mask = torch.ones(shape.mask, device=device, dtype=torch.bool if shape.mask_is_bool else dtype).expand(whole)

    def run(backend: SDPBackend) -> Callable[[], Any]:
        def call() -> Any:
            with sdpa_kernel(backend):
                return functional.scaled_dot_product_attention(
                    query, key, value, attn_mask=mask, is_causal=shape.causal, enable_gqa=shared
                )

        return call

    kinds = [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]
    if device.type == "cuda":
        kinds = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    calls = {}
    for kind in kinds:
        try:
            run(kind)()
        except RuntimeError as error:  # this implementation does not take these shapes
            if lacks_memory(error):
                raise
            continue
        calls[kind.name] = run(kind)
    return _best(calls or {SDPBackend.MATH.name: run(SDPBackend.MATH)})


def _best(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Fastest of a few blocks of calls each, in milliseconds: what the machine can do, not what it mostly does.

    Timed by `torch.utils.benchmark.Timer`, which waits for the GPU once a block, so that launching is not counted. What
    the libraries have no kernel for is left out.

    Raises:
        RuntimeError: there is a kernel for none of them; or memory ran out, which says nothing about kernels.
    """
    found, refused = {}, None
    for name, call in calls.items():
        timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
        try:
            found[name] = min(timer.blocked_autorange(min_run_time=MIN_SECONDS).times) * 1e3
        except RuntimeError as error:
            if lacks_memory(error):
                raise
            refused = error
    if refused is not None and not found:
        raise refused
    return found
