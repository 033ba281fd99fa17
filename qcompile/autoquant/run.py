"""What one autoquant step measures, and what it decides for every layer."""

from collections import Counter
from collections.abc import Callable, Mapping

import torch

from qcompile.autoquant.blocks import CHOSEN, Group, describe_timings, groups, overruled, sample_block, winner
from qcompile.autoquant.cache import Cache
from qcompile.autoquant.candidates import runnable
from qcompile.autoquant.decide import UNMEASURED, Decision, Evidence, Timing, decide, total
from qcompile.autoquant.measure import OUT_OF_MEMORY, BlockTimer, LayerTimer
from qcompile.autoquant.resolution import Measurement, measurements_of
from qcompile.autoquant.subject import Prepared, Task
from qcompile.autoquant.survey import LinearShape, Survey, survey
from qcompile.errors import MachineError, PlanError
from qcompile.progress import Progress, stage
from qcompile.steps.autoquant import NONE, Autoquant


class Run:
    """The measurements of one autoquant step."""

    def __init__(
        self,
        task: Task,
        prepared: Prepared,
        device: torch.device,
        store: Cache,
        timers: tuple[LayerTimer, BlockTimer],
        clock: Callable[[], float],
        progress: Progress,
    ) -> None:
        self.task = task
        self._options = task.step.autoquant or Autoquant()
        self._store, self._progress = store, progress
        self._timer, self._block_timer = timers
        self._prepared = prepared
        self._compiler_options = prepared.compiler_options
        self._block_notes: list[str] = []
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
        return self._with_whole_blocks(decisions)

    def measurements(self, decisions: Mapping[str, Decision]) -> list[Measurement]:
        """The rows of the table."""
        refused = [
            Measurement(None, name, len(self.task.layers), 0, None, None, reason)
            for name, reason in self._refused.items()
        ]
        return measurements_of(self._found, self._timings, decisions, self._candidates) + refused

    def notes(self, decisions: Mapping[str, Decision]) -> list[str]:
        """What whole blocks showed, and what there was no time for."""
        open_layers = [name for name, decision in decisions.items() if not decision.complete]
        if not open_layers:
            return self._block_notes
        return [
            *self._block_notes,
            f"{self.task.place}: out of budget after {self._options.budget_s:g} s; {len(open_layers)} of "
            f"{len(decisions)} layers were not fully measured, {open_layers[0]} for one",
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

    def _with_whole_blocks(self, decisions: Mapping[str, Decision]) -> dict[str, Decision]:
        """The decisions, where a whole block is faster in one scheme throughout that scheme."""
        found = dict(decisions)
        for group in groups(self._prepared.model, decisions, self._candidates, self._cost):
            timings = self._time_blocks(group)
            taken = winner(group, timings)
            self._block_notes.append(f"{self.task.place}: {describe_timings(group, timings, taken)}")
            if taken != CHOSEN:
                for name in (f"{block}.{layer}" for block in group.blocks for layer in group.chosen):
                    found[name] = overruled(found[name], taken)
        return found

    def _time_blocks(self, group: Group) -> dict[str, Timing | str]:
        variants = group.variants()
        shapes = "; ".join(f"{layer} {', '.join(map(str, shapes))}" for layer, shapes in self._shapes_in(group).items())
        key = f"{group.key()} ({shapes})"
        known = self._store.get(key, variants)
        if known is None and not self._expired():
            with stage(self._progress, f"measure {group.kind} as a whole ({', '.join(variants)})"):
                # The first one's inputs may lie in memory in another way than everybody else's.
                sample = sample_block(self._prepared.model, group.blocks[-1], self._prepared.calls)
                known = self._block_timer(sample.block, sample.calls, variants, self._expired, self._compiler_options)
            if known.keys() >= set(variants):
                self._store.put(key, {name: found for name, found in known.items() if found != OUT_OF_MEMORY})
        known = known or {}
        missing = [name for name in variants if name not in known]
        if missing and self._options.on_budget == "error":
            raise PlanError(self._no_time_for(f"whole {group.kind}s in {', '.join(missing)}"))
        return known | dict.fromkeys(missing, UNMEASURED)

    def _shapes_in(self, group: Group) -> dict[str, list[LinearShape]]:
        return {layer: self._found.calls[f"{group.blocks[-1]}.{layer}"] for layer in group.chosen}

    def _cost(self, name: str, scheme: str) -> float | None:
        """Microseconds of a layer's calls, where it can have the scheme."""
        if scheme != NONE and not self._accurate(name, scheme):
            return None
        found = self._timing(name, scheme)
        return None if found is None else found.median_us

    def _timing(self, name: str, scheme: str) -> Timing | None:
        """All calls of a layer in a step together."""
        return total(self._timings.get(shape, {}).get(scheme) for shape in self._found.calls[name])

    def _decide(self, name: str) -> Decision:
        calls = self._found.calls[name]

        def obstacle(scheme: str) -> str | None:
            failed = [self._failures.get(shape, {}).get(scheme) for shape in calls]
            return self._found.obstacles.get((name, scheme)) or next((reason for reason in failed if reason), None)

        evidence = {
            scheme: Evidence(self._found.sqnr_db.get((name, scheme)), self._timing(name, scheme), obstacle(scheme))
            for scheme in self._candidates
        }
        return decide(self._timing(name, NONE), evidence, self._options.min_sqnr_db)

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
        return self._no_time_for(shown)

    def _no_time_for(self, what: str) -> str:
        return (
            f"{self.task.place}.autoquant.budget_s: {self._options.budget_s:g} s were not enough; not measured: "
            f"{what}. Shapes that were measured whole are in the cache, and the next run goes on from there. Raise "
            "budget_s, select fewer layers, or let unmeasured layers stay as they are with on_budget: none."
        )
