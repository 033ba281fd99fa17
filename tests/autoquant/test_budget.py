"""What is kept: from run to run, out of time, interrupted."""

from pathlib import Path

import pytest
import torch

from autoquant.fakes import BLOCKS, LATENCIES_US, FakeTimer, autoquant_step, make_recipe, run, steps_of, tiny
from qcompile.autoquant import resolve
from qcompile.autoquant.cache import Cache
from qcompile.autoquant.machine import describe
from qcompile.errors import MachineError, PlanError


def test_figures_come_from_the_cache_the_second_time(cache: Path) -> None:
    first, second = FakeTimer(), FakeTimer()
    found = run(make_recipe(), first, cache)
    again = run(make_recipe(), second, cache)
    assert second.asked == []
    assert again == found
    third = FakeTimer()
    run(make_recipe(autoquant_step(candidates=["int8_dynamic"])), third, cache)
    assert third.asked == []


def test_out_of_memory_is_not_kept(cache: Path) -> None:
    full = FakeTimer(LATENCIES_US | {"int8_dynamic": "out of memory"})
    assert steps_of(run(make_recipe(), full, cache)) == {"int8_weight_only": BLOCKS}
    again = FakeTimer()
    assert steps_of(run(make_recipe(), again, cache)) == {"int8_dynamic": BLOCKS}


ROWS = (24, 48, 96)


def test_out_of_budget_is_an_error_that_says_what_is_missing(cache: Path) -> None:
    # Four schemes of a second each: the second shape is not finished.
    slow = FakeTimer(seconds=1)
    with pytest.raises(
        PlanError,
        match=r"steps\.0\.quantize\.autoquant\.budget_s: 6 s were not enough; not measured: float8_weight_only for 48x32 -> "
        r"32 float32.*on_budget: none",
    ):
        run(make_recipe(autoquant_step(budget_s=6)), slow, cache, ROWS)
    # What was finished is not measured again, and now there is time enough.
    again = FakeTimer(seconds=1)
    assert steps_of(run(make_recipe(autoquant_step(budget_s=8.5)), again, cache, ROWS)) == {"int8_dynamic": BLOCKS}
    assert [shape.rows for shape, _ in again.asked] == [48, 96]


def test_part_of_a_run_takes_no_figures_away(cache: Path) -> None:
    few = autoquant_step(candidates=["int8_dynamic", "int8_weight_only"])
    run(make_recipe(few), FakeTimer(seconds=1), cache)
    with pytest.raises(PlanError, match="2 s were not enough; not measured: float8_weight_only"):
        run(make_recipe(autoquant_step(budget_s=2)), FakeTimer(seconds=1), cache)
    again = FakeTimer()
    run(make_recipe(few), again, cache)
    assert again.asked == []


def test_errors_there_was_no_time_for_are_named(cache: Path) -> None:
    run(make_recipe(), FakeTimer(), cache)
    ticks = iter(range(0, 10_000, 100))
    model, inputs = tiny()
    late = {"device": "cpu", "cache": cache, "timer": FakeTimer(), "clock": lambda: next(ticks)}
    with pytest.raises(PlanError, match="not measured: .*the error of int8_dynamic in 6 layers"):
        resolve(make_recipe(autoquant_step(budget_s=50)), model=model, example_inputs=inputs, **late)


def test_out_of_budget_can_leave_layers_as_they_are(cache: Path) -> None:
    slow = FakeTimer(seconds=1)
    recipe = make_recipe(
        autoquant_step({"include": ["embed", "blocks.**"]}, budget_s=4, on_budget="none"),
    )
    resolution = run(recipe, slow, cache)
    assert steps_of(resolution) == {"int8_dynamic": ["embed"]}
    (note,) = resolution.notes
    assert (
        note
        == "steps.0.quantize: out of budget after 4 s; 6 of 7 layers were not fully measured, blocks.0.first for one"
    )
    verdicts = {row.verdict for row in resolution.measurements if row.shape and row.shape.in_features == 32}
    assert verdicts == {"not measured: out of budget", "taken"}  # `none` is what they have
    assert f"# {note}\n" in resolution.to_yaml()


def test_no_time_at_all(cache: Path) -> None:
    late = FakeTimer()
    ticks = iter(range(0, 10_000, 100))
    model, inputs = tiny()
    with pytest.raises(PlanError, match="no candidate is worth it.*not measured: out of budget"):
        resolve(
            make_recipe(autoquant_step(budget_s=1, on_budget="none")),
            model=model,
            example_inputs=inputs,
            device="cpu",
            cache=cache,
            timer=late,
            clock=lambda: next(ticks),
        )
    assert late.asked == []


def test_each_step_has_a_budget_of_its_own(cache: Path) -> None:
    slow = FakeTimer(seconds=1)
    steps = [autoquant_step({"include": [layers]}, budget_s=4) for layers in ("embed", "blocks.**")]
    assert steps_of(run(make_recipe(*steps), slow, cache)) == {"int8_dynamic": BLOCKS}
    assert slow.now == 8


def test_a_compiler_that_was_mended_is_asked_again(cache: Path) -> None:
    broken = FakeTimer(dict.fromkeys(LATENCIES_US, "fails: no C++ compiler"))
    with pytest.raises(MachineError, match="no C.. compiler"):
        run(make_recipe(), broken, cache)
    assert steps_of(run(make_recipe(), FakeTimer(), cache)) == {"int8_dynamic": BLOCKS}


def test_a_broken_compiler_that_a_cache_remembers_is_asked_again(cache: Path) -> None:
    store = Cache(cache, describe(torch.device("cpu")))
    store.put("24x32 -> 32 float32", dict.fromkeys(LATENCIES_US, "fails: no C++ compiler"))
    assert steps_of(run(make_recipe(), FakeTimer(), cache)) == {"int8_dynamic": BLOCKS}


def test_an_interrupted_run_keeps_what_it_finished(cache: Path) -> None:
    stopped = FakeTimer(interrupt_at=2)
    with pytest.raises(KeyboardInterrupt):
        run(make_recipe(), stopped, cache, ROWS)
    again = FakeTimer()
    run(make_recipe(), again, cache, ROWS)
    assert [shape.rows for shape, _ in stopped.asked] == [24, 48]
    assert [shape.rows for shape, _ in again.asked] == [96]


def test_a_corrupt_cache_is_told_and_measured_anew(cache: Path) -> None:
    cache.write_text("{")
    timer = FakeTimer()
    resolution = run(make_recipe(), timer, cache)
    assert len(timer.asked) == 1
    assert "is left as it is" in resolution.notes[0]
    assert cache.read_text() == "{"
