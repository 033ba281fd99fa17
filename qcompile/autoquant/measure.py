"""How long a compiled linear, or a whole block, takes in each scheme, on the device, interleaved."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import FunctionType
from typing import Any, Protocol

import torch
from torch import nn

from qcompile.aot.options import BASE, for_compiler
from qcompile.autoquant.candidates import FAILURES, first_line, in_scheme, in_schemes
from qcompile.autoquant.decide import Timing

OUT_OF_MEMORY = "out of memory"
"""Outcome of a candidate that needs more memory than is free; another time there may be enough."""
WARM_UP_CALLS = 3
MIN_ROUNDS, MAX_ROUNDS = 7, 40
ROUND_SECONDS = 0.02
"""What one round of one candidate should take, so that timers and interruptions matter little."""
TARGET_SECONDS = 1.0
"""What all rounds of one shape should take."""
FLUSH_BYTES = 256 << 20
"""More than the L2 cache of any GPU: weights come from memory, as they do in a model of many layers."""
HOLD_CYCLES = 20_000_000
"""GPU cycles (some 10 ms) that launches of one batch get as a head start."""
MAX_BATCH = 10


class BlockTimer(Protocol):
    """Measures one block in several variants; see `time_blocks`."""

    def __call__(
        self,
        block: nn.Module,
        calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
        variants: Mapping[str, Mapping[str, str]],
        expired: Callable[[], bool],
        options: Mapping[str, Any],
    ) -> dict[str, Timing | str]:
        """Give a timing, or why there is none, for each variant there was time for."""


class LayerTimer(Protocol):
    """Measures one layer in several schemes; tests have one that needs no compiler."""

    def __call__(
        self,
        layer: nn.Linear,
        activation: torch.Tensor,
        schemes: Sequence[str],
        expired: Callable[[], bool],
        options: Mapping[str, Any],
    ) -> dict[str, Timing | str]:
        """Give a timing, or why there is none, for each scheme there was time for."""


def time_compiled(
    layer: nn.Linear,
    activation: torch.Tensor,
    schemes: Sequence[str],
    expired: Callable[[], bool],
    options: Mapping[str, Any] = BASE,
) -> dict[str, Timing | str]:
    """Compile `layer` in each scheme and time calls with `activation`.

    All schemes are compiled and warmed up first. Then they take turns (A B C A B C …), so that a machine that gets
    slower or faster meanwhile does so for all of them.

    Args:
        layer: the unquantized layer; it is left as it is.
        activation: [..., in], captured from the model.
        schemes: what to measure; the first one is measured whatever the time.
        expired: asked before each further compilation whether time is up.
        options: of the compiler, other than inductor's defaults.
    """

    def make(scheme: str) -> Callable[[], object]:
        run = _compiled(in_scheme(scheme, layer, activation), options)
        return lambda: run(activation)

    return _time({scheme: partial(make, scheme) for scheme in schemes}, activation.device, expired)


def time_blocks(
    block: nn.Module,
    calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
    variants: Mapping[str, Mapping[str, str]],
    expired: Callable[[], bool],
    options: Mapping[str, Any] = BASE,
) -> dict[str, Timing | str]:
    """Compile `block` with its layers in each variant's schemes and time `calls` of it together, in turn.

    Args:
        block: not quantized; it is left as it is.
        calls: positional and keyword arguments of every call of it in one step of each declared shape.
        variants: name -> layer of the block -> scheme.
        expired: asked before each further compilation whether time is up.
        options: of the compiler, other than inductor's defaults.
    """
    device = next(block.parameters()).device

    def make(schemes: Mapping[str, str]) -> Callable[[], object]:
        run = _compiled(in_schemes(schemes, block), options)
        return lambda: [run(*args, **kwargs) for args, kwargs in calls]

    return _time({name: partial(make, schemes) for name, schemes in variants.items()}, device, expired)


def _time(
    makers: Mapping[str, Callable[[], Callable[[], object]]], device: torch.device, expired: Callable[[], bool]
) -> dict[str, Timing | str]:
    """Timings of what each maker makes, or why there is none; the first is made whatever the time."""
    outcomes: dict[str, Timing | str] = {}
    calls: dict[str, Callable[[], object]] = {}
    with torch.no_grad(), _current(device):
        for index, (name, make) in enumerate(makers.items()):
            if index and expired():
                break
            try:
                call = make()
                for _ in range(WARM_UP_CALLS):
                    call()
                _wait(device)
            except torch.OutOfMemoryError:
                outcomes[name] = OUT_OF_MEMORY
            except FAILURES as error:
                outcomes[name] = f"fails: {first_line(error)}"
            else:
                calls[name] = call
        sample = _samples_on_gpu if device.type == "cuda" else _samples_on_cpu
        return outcomes | {name: timing_of(samples) for name, samples in _interleave(calls, sample).items()}


def timing_of(samples: Sequence[float]) -> Timing:
    """Median and half the interquartile range of seconds, in microseconds."""
    lower, median, upper = (1e6 * value for value in statistics.quantiles(samples, n=4, method="inclusive"))
    return Timing(median, (upper - lower) / 2)


def _compiled(module: nn.Module, options: Mapping[str, Any]) -> Callable[..., object]:
    def run(*args: Any, **kwargs: Any) -> object:
        return module(*args, **kwargs)

    # Compiled code hangs on a code object, and torch stops compiling after a few variants of one. So each run has a
    # code object of its own, which also goes away with it.
    own = FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    return torch.compile(own, fullgraph=True, dynamic=False, options=for_compiler(options))  # type: ignore[no-any-return]


def _interleave(
    compiled: dict[str, Callable[[], object]], sample: Callable[[Callable[[], object], int], list[float]]
) -> dict[str, list[float]]:
    if not compiled:
        return {}
    repeats = {
        name: max(1, min(1000, round(ROUND_SECONDS / max(sample(call, 1)[0], 1e-7)))) for name, call in compiled.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in compiled}
    started, done = time.perf_counter(), 0
    while done < MIN_ROUNDS or (done < MAX_ROUNDS and time.perf_counter() - started < TARGET_SECONDS):
        for name, call in compiled.items():
            samples[name] += sample(call, repeats[name])
        done += 1
    return samples


def _samples_on_cpu(call: Callable[[], object], repeats: int) -> list[float]:
    """One sample: the mean of `repeats` calls, in seconds."""
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return [(time.perf_counter() - started) / repeats]


def _samples_on_gpu(call: Callable[[], object], repeats: int) -> list[float]:
    """Up to `MAX_BATCH` samples in seconds, each of one call with a cold L2 cache, launch times apart.

    The GPU is held until the batch is launched: what Python and torch take to launch a call is not there any more once
    a whole block is one package.
    """
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(min(repeats, MAX_BATCH))]
    torch.cuda._sleep(HOLD_CYCLES)
    for start, end in marks:
        flush.zero_()
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in marks]


def _current(device: torch.device) -> AbstractContextManager[object]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
