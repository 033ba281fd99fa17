"""Recipe with autoquant steps -> explicit recipe, by measuring on the device."""

import datetime
import gc
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcompile.autoquant.cache import Cache, default_cache
from qcompile.autoquant.candidates import runnable
from qcompile.autoquant.decide import UNMEASURED, Decision, Evidence, Timing, decide, total
from qcompile.autoquant.machine import describe
from qcompile.autoquant.measure import OUT_OF_MEMORY, LayerTimer, time_compiled
from qcompile.autoquant.resolution import Measurement, Resolution, explicit, measurements_of
from qcompile.autoquant.subject import Prepared, Task, autoquant_steps, prepare
from qcompile.autoquant.survey import LinearShape, Survey, survey
from qcompile.devices import resolve_device
from qcompile.errors import MachineError, PlanError
from qcompile.noise import quiet_libraries
from qcompile.progress import Progress, Silent, stage
from qcompile.recipe import Recipe
from qcompile.steps.autoquant import NONE, Autoquant


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
    clock: Callable[[], float] = time.monotonic,
) -> Resolution:
    """Measure the candidates of every autoquant step and write the decision as an explicit recipe.

    For each selected layer it takes the fastest scheme whose output error on captured activations stays within
    `min_sqnr_db`, and which beats the plain compiled layer by more than the spread of both measurements together; else
    the layer stays as it is. Latencies are medians of calls that take turns, one layer for each distinct (rows, in,
    out, dtype, bias), compiled with the options that the recipe compiles the denoiser with. A layer that is called with
    several row counts is judged by the sum of its calls, and has to hold the bound in all of them. Errors are measured
    for every layer.

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
            timer,
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
    timer: LayerTimer,
    clock: Callable[[], float],
) -> Resolution:
    store = Cache(cache, describe(device, prepared.compiler_options))
    runs = [_Run(task, prepared, device, store, timer, clock, progress) for task in prepared.tasks]
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


class _Run:
    """The measurements of one autoquant step."""

    def __init__(
        self,
        task: Task,
        prepared: Prepared,
        device: torch.device,
        store: Cache,
        timer: LayerTimer,
        clock: Callable[[], float],
        progress: Progress,
    ) -> None:
        self.task = task
        self._options = task.step.autoquant or Autoquant()
        self._store, self._timer, self._progress = store, timer, progress
        self._compiler_options = prepared.compiler_options
        self._candidates, self._refused = runnable(self._options, device, task.compile_mode, task.place)
        self._clock = clock
        self._deadline = clock() + self._options.budget_s
        with stage(progress, f"errors of {', '.join(self._candidates)} in {len(task.layers)} layers"):
            self._found: Survey = survey(
                prepared.model, task.layers, prepared.calls, self._candidates, device.type, self._expired
            )
        self._left_s = self._deadline - clock()
        self._timings: dict[LinearShape, dict[str, Timing]] = {}
        self._failures: dict[LinearShape, dict[str, str]] = {}

    def decide(self) -> dict[str, Decision]:
        """Measure what is needed and decide for every layer.

        Raises:
            MachineError: not even the plain layer compiles.
            PlanError: time was up, and the recipe makes that an error.
        """
        # What other steps took in between is no part of this step's budget.
        self._deadline = self._clock() + self._left_s
        needed = self._needed()
        for count, (shape, schemes) in enumerate(needed.items(), start=1):
            known = self._store.get(str(shape), schemes)
            if known and isinstance(known[NONE], str):
                known = None  # kept by an earlier qcompile: that compiler may work by now
            if known is None and not self._expired():
                with stage(self._progress, f"measure {count}/{len(needed)}: {shape} ({', '.join(schemes)})"):
                    layer, activation = self._found.samples[shape]
                    known = self._timer(layer, activation, schemes, self._expired, self._compiler_options)
                # Before the cache has it: a compiler can be mended, and a cache would not see that.
                self._refuse_without_compiler(shape, known)
                # Figures of one shape are of one run: part of this one would take the place of an earlier, whole one.
                if known.keys() >= set(schemes):
                    self._store.put(
                        str(shape), {name: found for name, found in known.items() if found != OUT_OF_MEMORY}
                    )
            found = known or {}
            self._timings[shape] = {name: outcome for name, outcome in found.items() if isinstance(outcome, Timing)}
            self._failures[shape] = {name: outcome for name, outcome in found.items() if isinstance(outcome, str)}
        decisions = {name: self._decide(name) for name in self.task.layers}
        if self._options.on_budget == "error" and not all(decision.complete for decision in decisions.values()):
            raise PlanError(self._out_of_budget(decisions))
        return decisions

    def measurements(self, decisions: Mapping[str, Decision]) -> list[Measurement]:
        """The rows of the table."""
        refused = [
            Measurement(None, name, len(self.task.layers), 0, None, None, reason)
            for name, reason in self._refused.items()
        ]
        return measurements_of(self._found, self._timings, decisions, self._candidates) + refused

    def notes(self, decisions: Mapping[str, Decision]) -> list[str]:
        """What there was no time for."""
        open_layers = [name for name, decision in decisions.items() if not decision.complete]
        if not open_layers:
            return []
        return [
            f"{self.task.place}: out of budget after {self._options.budget_s:g} s; {len(open_layers)} of "
            f"{len(decisions)} layers were not fully measured, {open_layers[0]} for one"
        ]

    def nothing_gained(self, decisions: Mapping[str, Decision]) -> str:
        """The message where every layer stays as it is."""
        reasons = sorted({f"{row.scheme} {row.verdict}" for row in self.measurements(decisions) if row.scheme != NONE})
        return (
            f"{self.task.place}: no candidate is worth it for any of the {len(decisions)} layers on this machine: "
            f"{'; '.join(reasons)}. The plain layers are best as they are: take the step out, name other "
            "candidates, or lower autoquant.min_sqnr_db."
        )

    def _expired(self) -> bool:
        return self._clock() >= self._deadline

    def _needed(self) -> dict[LinearShape, list[str]]:
        """Schemes to time for each shape: those that are accurate enough in at least one layer."""
        needed: dict[LinearShape, list[str]] = {}
        for name, calls in self._found.calls.items():
            if not calls:
                raise PlanError(
                    f"{self.task.place}.layers: {name} is not called by any declared shape, so it can't be measured. "
                    "Exclude it."
                )
            fit = [scheme for scheme in self._candidates if self._accurate(name, scheme)]
            for shape in calls if fit else ():
                needed[shape] = [s for s in (NONE, *self._candidates) if s in (NONE, *needed.get(shape, ()), *fit)]
        return needed

    def _accurate(self, name: str, scheme: str) -> bool:
        key = (name, scheme)
        if key in self._found.obstacles or key not in self._found.sqnr_db:
            return False
        return self._found.sqnr_db[key] >= self._options.min_sqnr_db

    def _refuse_without_compiler(self, shape: LinearShape, known: Mapping[str, Timing | str]) -> None:
        none = known.get(NONE)
        if isinstance(none, str):
            raise MachineError(
                f"{self.task.place}: the plain layer of {shape} can't be compiled and measured here: {none}. `qcompile "
                "doctor` checks the compiler."
            )

    def _decide(self, name: str) -> Decision:
        calls = self._found.calls[name]

        def timing(scheme: str) -> Timing | None:
            return total(self._timings.get(shape, {}).get(scheme) for shape in calls)

        def obstacle(scheme: str) -> str | None:
            failed = [self._failures.get(shape, {}).get(scheme) for shape in calls]
            return self._found.obstacles.get((name, scheme)) or next((reason for reason in failed if reason), None)

        evidence = {
            scheme: Evidence(self._found.sqnr_db.get((name, scheme)), timing(scheme), obstacle(scheme))
            for scheme in self._candidates
        }
        return decide(timing(NONE), evidence, self._options.min_sqnr_db)

    def _out_of_budget(self, decisions: Mapping[str, Decision]) -> str:
        missing = sorted(
            {
                f"{scheme} for {shape}"
                for name, decision in decisions.items()
                for scheme, verdict in decision.verdicts.items()
                if verdict == UNMEASURED
                for shape in self._found.calls[name]
                if scheme not in self._timings.get(shape, {})
            }
        )
        without_error = Counter(
            scheme
            for name in decisions
            for scheme in self._candidates
            if (name, scheme) not in self._found.sqnr_db and (name, scheme) not in self._found.obstacles
        )
        missing += [f"the error of {scheme} in {count} layers" for scheme, count in without_error.items()]
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        return (
            f"{self.task.place}.autoquant.budget_s: {self._options.budget_s:g} s were not enough; not measured: "
            f"{shown}. Shapes that were measured whole are in the cache, and the next run goes on from there. Raise "
            "budget_s, select fewer layers, or let unmeasured layers stay as they are with on_budget: none."
        )


def _device_of(pipeline: Any, model: nn.Module | None) -> str | None:
    if model is not None:
        return str(next(model.parameters()).device)
    return str(pipeline.device) if pipeline is not None else None
