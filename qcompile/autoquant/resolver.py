"""Recipe with autoquant steps -> explicit recipe, by measuring on the device."""

import datetime
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcompile.autoquant.cache import Cache, default_cache
from qcompile.autoquant.machine import describe
from qcompile.autoquant.measure import BlockTimer, LayerTimer, time_blocks, time_compiled
from qcompile.autoquant.resolution import Measurement, Resolution, explicit
from qcompile.autoquant.run import Run
from qcompile.autoquant.subject import Prepared, autoquant_steps, prepare
from qcompile.devices import resolve_device
from qcompile.errors import PlanError
from qcompile.noise import quiet_libraries
from qcompile.progress import Progress, Silent, stage
from qcompile.recipe import Recipe
from qcompile.steps.autoquant import NONE


@quiet_libraries()
def resolve(
    recipe: Recipe,
    *,
    pipeline: Any = None,
    model: nn.Module | None = None,
    example_inputs: Sequence[Mapping[str, Any]] = (),
    device: str | None = None,
    progress: Progress | None = None,
    cache: Path | None = None,
    timer: LayerTimer = time_compiled,
    block_timer: BlockTimer = time_blocks,
    clock: Callable[[], float] = time.monotonic,
) -> Resolution:
    """Measure the candidates of every autoquant step and write the decision as an explicit recipe.

    For each selected layer it takes the fastest scheme whose output error on captured activations stays within
    `min_sqnr_db`, and which beats the plain compiled layer by more than the spread of both measurements together; else
    the layer stays as it is. Latencies are medians of calls that take turns, one layer for each distinct (rows, in,
    out, dtype, bias), compiled with the options that the recipe compiles the denoiser with. A layer that is called with
    several row counts is judged by the sum of its calls, and has to hold the bound in all of them. Errors are measured
    for every layer. Where by these latencies a single scheme would be about as fast, whole blocks are compiled both
    ways and compared, since single layers don't show what is shared and fused between them.

    A recipe without autoquant comes back as it is.

    Args:
        recipe: the recipe; it and live objects are left as they are.
        pipeline: measure this pipeline's layers instead of loading the recipe's model.
        model: measure this bare denoiser's layers instead.
        example_inputs: keyword arguments that `model` is called with, one mapping a shape.
        device: `cpu`, `cuda` or `cuda:N`; by default that of the live object, else a GPU where there is one.
        progress: told what happens.
        cache: file of latencies measured before; by default `default_cache()`.
        timer: how one layer is timed.
        block_timer: how whole blocks are timed.
        clock: seconds since some moment, for the budget.

    Raises:
        ModelError: the model can't be found or loaded.
        PlanError: the steps don't fit the model, time was up where the recipe makes that an error, or no layer would
            gain from any scheme.
        MachineError: this machine can run or compile none of the candidates.
    """
    if not autoquant_steps(recipe):
        return Resolution(recipe)
    progress = progress or Silent()
    where = resolve_device(device or _device_of(pipeline, model))
    try:
        # No name here holds what is loaded: it is gone when the memory is given back.
        return _resolve(
            recipe,
            prepare(recipe, pipeline, model, example_inputs, where, progress),
            where,
            progress,
            cache or default_cache(),
            (timer, block_timer),
            clock,
        )
    finally:
        gc.collect()  # compiled code is part of reference cycles
        if where.type == "cuda":
            torch.cuda.empty_cache()


def _resolve(
    recipe: Recipe,
    prepared: Prepared,
    device: torch.device,
    progress: Progress,
    cache: Path,
    timers: tuple[LayerTimer, BlockTimer],
    clock: Callable[[], float],
) -> Resolution:
    store = Cache(cache, describe(device, prepared.compiler_options))
    runs = [Run(task, prepared, device, store, timers, clock, progress) for task in prepared.tasks]
    chosen: dict[int, dict[str, str]] = {}
    measurements: list[Measurement] = []
    notes: list[str] = []
    for run in runs:
        decisions = run.decide()
        measurements += run.measurements(decisions)
        notes += run.notes(decisions)
        chosen[run.task.index] = {name: found.scheme for name, found in decisions.items() if found.scheme != NONE}
        if not chosen[run.task.index]:
            raise PlanError(run.nothing_gained(decisions))
    for note in (*store.notes, *notes):
        with stage(progress, note):
            pass
    return Resolution(
        explicit(recipe, chosen),
        tuple(measurements),
        store.machine,
        datetime.datetime.now(datetime.UTC).date().isoformat(),
        (*store.notes, *notes),
    )


def _device_of(pipeline: Any, model: nn.Module | None) -> str | None:
    if model is not None:
        return str(next(model.parameters()).device)
    return str(pipeline.device) if pipeline is not None else None
