"""Layers are measured with the compiler options that the recipe compiles the denoiser with."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._inductor.graph import GraphLowering

from autoquant.fakes import AOT, FakeTimer, autoquant_step, make_recipe, run
from qcompile.aot.options import BASE
from qcompile.autoquant.decide import Timing
from qcompile.autoquant.machine import describe
from qcompile.autoquant.measure import time_compiled
from qcompile.errors import PlanError
from qcompile.recipe import Recipe

SEARCH = {"inductor": {"component": "model", "options": {"coordinate_descent_tuning": True}}}


def compiled(inductor: Sequence[dict] = (), **options: str) -> Recipe:
    return make_recipe(compiled=(*inductor, {"compile": {"component": "model"} | {"mode": "aot"} | options}))


@pytest.mark.parametrize("steps", [(), (autoquant_step({"include": ["blocks.0.**"]}), autoquant_step())])
def test_the_later_compile_step_says_with_what(cache: Path, steps: Sequence[dict]) -> None:
    timer = FakeTimer()
    tuned = {"compile": AOT["compile"] | {"tuning": "max-autotune-no-cudagraphs"}}
    other = {"inductor": {"component": "model", "options": {"epilogue_fusion": False}}}
    resolution = run(make_recipe(*steps, compiled=(SEARCH, other, tuned)), timer, cache)
    expected = {**BASE, "max_autotune": True, "coordinate_descent_tuning": True, "epilogue_fusion": False}
    assert timer.options == [expected]
    said = "coordinate_descent_tuning=True, emulate_precision_casts=True, epilogue_fusion=False, max_autotune=True"
    assert resolution.machine.endswith(said)
    assert resolution.comment().splitlines()[1].endswith(said)


def test_graphs_of_a_whole_step_say_nothing_of_one_layer(cache: Path) -> None:
    timer = FakeTimer()
    run(compiled(mode="jit", scope="full", tuning="reduce-overhead"), timer, cache)
    assert timer.options == [BASE]
    # So figures of the default, which is the same code, serve as well.
    again = FakeTimer()
    run(compiled(), again, cache)
    assert again.asked == []


def test_figures_under_other_options_are_not_used(cache: Path) -> None:
    default, tuned = FakeTimer(), FakeTimer()
    run(compiled(), default, cache)
    run(compiled([SEARCH]), tuned, cache)
    assert len(default.asked) == len(tuned.asked) == 1
    for recipe in (compiled(), compiled([SEARCH])):
        idle = FakeTimer()
        run(recipe, idle, cache)
        assert idle.asked == []


def test_figures_of_before_options_were_part_of_the_key_are_used(cache: Path) -> None:
    run(compiled(), FakeTimer(), cache)
    ((machine, _),) = json.loads(cache.read_text())["machines"].items()
    assert machine == describe(torch.device("cpu"))
    assert machine.endswith(", emulate_precision_casts=True")


def test_text_can_not_pass_for_another_option() -> None:
    cpu = torch.device("cpu")
    one, two = describe(cpu, {"a": "1, b=2"}), describe(cpu, {"a": "1", "b": 2})
    assert one != two
    assert len(describe(cpu, {"a": "1\nsteps: []"}).splitlines()) == 1


def test_an_option_that_torch_does_not_know_is_no_broken_compiler(cache: Path) -> None:
    timer = FakeTimer()
    wrong = {"inductor": {"component": "model", "options": {"epilogue_fusoin": True}}}
    with pytest.raises(PlanError, match=r"steps.1.inductor.options.epilogue_fusoin: .* did you mean 'epilogue_fusion'"):
        run(compiled([wrong]), timer, cache)
    assert timer.asked == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tuning": "max-autotune"}, r"steps.1.compile.tuning: max-autotune uses CUDA graphs, which packages"),
        ({"method": "decode", "scope": "full"}, r"steps.1.compile.method: Model has no decoder"),
    ],
)
def test_a_compile_step_that_does_not_fit_is_refused_before_measuring(
    cache: Path, options: dict[str, str], message: str
) -> None:
    timer = FakeTimer()
    with pytest.raises(PlanError, match=message):
        run(compiled(**options), timer, cache)
    assert timer.asked == []


@pytest.mark.slow
def test_they_reach_the_compiler() -> None:
    inside = []
    lowered = GraphLowering.run

    def watched(*args: object) -> object:
        inside.append((torch._inductor.config.conv_1x1_as_mm, torch._inductor.config.emulate_precision_casts))
        return lowered(*args)

    layer, activation = nn.Linear(64, 32).requires_grad_(False), torch.randn(24, 64)
    uncached = torch._inductor.config.patch(force_disable_caches=True)
    with pytest.MonkeyPatch.context() as patch, uncached:
        patch.setattr(GraphLowering, "run", watched)
        found = [
            time_compiled(layer, activation, ["none", "int8_weight_only"], lambda: False, options)
            for options in (BASE, {**BASE, "conv_1x1_as_mm": True})
        ]
    assert inside == [(False, True)] * 2 + [(True, True)] * 2
    assert all(isinstance(timing, Timing) for outcomes in found for timing in outcomes.values())
    assert not torch._inductor.config.conv_1x1_as_mm
