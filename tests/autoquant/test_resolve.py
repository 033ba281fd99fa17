"""From a recipe with autoquant to an explicit one, with a stopwatch that needs no compiler."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import demo_data
from hypothesis import given, settings
from hypothesis import strategies as st

from autoquant.fakes import LATENCIES_US, FakeStopwatch, autoquant_step, make_recipe, tiny
from qcompile import recipe as recipes
from qcompile.autoquant import Resolution, resolve
from qcompile.autoquant.survey import LinearShape
from qcompile.errors import MachineError, PlanError
from qcompile.planner import plan
from qcompile.recipe import Recipe

BLOCKS = ["blocks.0.first", "blocks.0.second", "blocks.1.first", "blocks.1.second", "blocks.2.first", "blocks.2.second"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "autoquant.json"


def run(recipe: Recipe, stopwatch: FakeStopwatch, cache: Path, rows: tuple[int, ...] = (24,)) -> Resolution:
    model, inputs = tiny(rows)
    return resolve(
        recipe,
        model=model,
        example_inputs=inputs,
        device="cpu",
        cache=cache,
        stopwatch=stopwatch,
        clock=stopwatch.clock,
    )


def steps_of(resolution: Resolution) -> dict[str, list[str]]:
    found = [step["quantize"] for step in resolution.recipe.data["steps"] if "quantize" in step]
    assert all(step.keys() == {"component", "scheme", "layers"} for step in found)
    return {step["scheme"]: step["layers"]["include"] for step in found}


def test_the_fastest_is_written_with_the_names_of_its_layers(cache: Path) -> None:
    stopwatch = FakeStopwatch()
    resolution = run(make_recipe(), stopwatch, cache)
    assert steps_of(resolution) == {"int8_dynamic": BLOCKS}
    # Six layers, one shape: one measurement.
    assert stopwatch.asked == [
        (LinearShape(24, 32, 32, "float32", True), ("none", "int8_dynamic", "int8_weight_only", "float8_weight_only"))
    ]
    assert [step.kind for step in resolution.recipe.steps] == ["quantize", "compile"]


def test_layers_left_out_by_the_selector_are_not_looked_at(cache: Path) -> None:
    step = autoquant_step({"include": ["blocks.1.**"], "exclude": ["**.second"]})
    assert steps_of(run(make_recipe(step), FakeStopwatch(), cache)) == {"int8_dynamic": ["blocks.1.first"]}


def test_the_explicit_recipe_measures_nothing(cache: Path) -> None:
    resolution = run(make_recipe(), FakeStopwatch(), cache)
    again = recipes.parse(resolution.to_yaml(), "tiny.yaml")
    assert again.data == resolution.recipe.data
    idle = FakeStopwatch()
    assert run(again, idle, cache).recipe is again
    assert idle.asked == []


def test_recipe_and_model_stay_as_they_are(cache: Path) -> None:
    recipe = make_recipe()
    before = yaml.safe_dump(recipe.data)
    model, inputs = tiny()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stopwatch = FakeStopwatch()
    resolve(recipe, model=model, example_inputs=inputs, device="cpu", cache=cache, stopwatch=stopwatch)
    assert yaml.safe_dump(recipe.data) == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert type(model.blocks[0].first.weight) is torch.nn.Parameter


def test_several_shapes_are_judged_by_the_sum(cache: Path) -> None:
    def latencies_us(shape: LinearShape) -> dict[str, float | str]:
        # int8_dynamic wins where there are many rows and loses where there are few.
        return LATENCIES_US | ({"int8_dynamic": 150.0} if shape.rows == 24 else {"int8_dynamic": 20.0})

    alone = run(make_recipe(), FakeStopwatch(latencies_us), cache, rows=(24,))
    assert steps_of(alone) == {"int8_weight_only": BLOCKS}
    # 150 + 20 us against 80 + 80, then 150 + 20 + 20 against 80 + 80 + 80.
    two = run(make_recipe(), FakeStopwatch(latencies_us), cache, rows=(24, 48))
    assert steps_of(two) == {"int8_weight_only": BLOCKS}
    assert {row.shape.rows for row in two.measurements if row.shape} == {24, 48}
    three = run(make_recipe(), FakeStopwatch(latencies_us), cache, rows=(24, 48, 96))
    assert steps_of(three) == {"int8_dynamic": BLOCKS}


def test_a_layer_is_as_accurate_as_the_recipe_asks(cache: Path) -> None:
    free = run(make_recipe(autoquant_step(min_sqnr_db=0)), FakeStopwatch(), cache)
    worst = {row.scheme: row.sqnr_db for row in free.measurements if row.scheme != "none"}
    assert 25 < worst["float8_weight_only"] < worst["int8_dynamic"] < worst["int8_weight_only"] < 70
    # A bound that only one candidate holds in all layers.
    bound = (worst["int8_dynamic"] + worst["int8_weight_only"]) / 2
    strict = run(make_recipe(autoquant_step(min_sqnr_db=bound)), FakeStopwatch(), cache)
    schemes = steps_of(strict)
    assert "float8_weight_only" not in schemes
    for row in strict.measurements:
        if row.num_taken == row.num_layers and row.scheme != "none":
            assert row.sqnr_db is not None
            assert row.sqnr_db >= bound
    taken = {name for names in schemes.values() for name in names}
    assert taken == set(BLOCKS)


def test_inaccurate_candidates_are_not_timed(cache: Path) -> None:
    stopwatch = FakeStopwatch()
    with pytest.raises(
        PlanError, match=r"steps\.0\.quantize: no candidate is worth it.*under 90 dB.*take the step out"
    ):
        run(make_recipe(autoquant_step(min_sqnr_db=90)), stopwatch, cache)
    assert stopwatch.asked == []


def test_nothing_gained_is_an_error_that_says_so(cache: Path) -> None:
    slow = FakeStopwatch(
        {"none": 50.0, "int8_dynamic": 60.0, "int8_weight_only": 49.0, "float8_weight_only": "fails: no"}
    )
    with pytest.raises(
        PlanError,
        match=r"for any of the 6 layers on this machine: float8_weight_only fails: no; int8_dynamic not faster than none; "
        r"int8_weight_only not faster than none.*take the step out",
    ):
        run(make_recipe(), slow, cache)


def test_figures_come_from_the_cache_the_second_time(cache: Path) -> None:
    first, second = FakeStopwatch(), FakeStopwatch()
    found = run(make_recipe(), first, cache)
    again = run(make_recipe(), second, cache)
    assert second.asked == []
    assert again == found
    third = FakeStopwatch()
    run(make_recipe(autoquant_step(candidates=["int8_dynamic"])), third, cache)
    assert third.asked == []


def test_out_of_memory_is_not_kept(cache: Path) -> None:
    full = FakeStopwatch(LATENCIES_US | {"int8_dynamic": "out of memory"})
    assert steps_of(run(make_recipe(), full, cache)) == {"int8_weight_only": BLOCKS}
    again = FakeStopwatch()
    assert steps_of(run(make_recipe(), again, cache)) == {"int8_dynamic": BLOCKS}


ROWS = (24, 48, 96)


def test_out_of_budget_is_an_error_that_says_what_is_missing(cache: Path) -> None:
    # Four schemes of a second each: the second shape is not finished.
    slow = FakeStopwatch(seconds=1)
    with pytest.raises(
        PlanError,
        match=r"steps\.0\.quantize\.autoquant\.budget_s: 6 s were not enough; not measured: float8_weight_only for 48x32 -> "
        r"32 float32.*on_budget: none",
    ):
        run(make_recipe(autoquant_step(budget_s=6)), slow, cache, ROWS)
    # What was finished is not measured again, and now there is time enough.
    again = FakeStopwatch(seconds=1)
    assert steps_of(run(make_recipe(autoquant_step(budget_s=8.5)), again, cache, ROWS)) == {"int8_dynamic": BLOCKS}
    assert [shape.rows for shape, _ in again.asked] == [48, 96]


def test_out_of_budget_can_leave_layers_as_they_are(cache: Path) -> None:
    slow = FakeStopwatch(seconds=1)
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
    late = FakeStopwatch()
    ticks = iter(range(0, 10_000, 100))
    model, inputs = tiny()
    with pytest.raises(PlanError, match="no candidate is worth it.*not measured: out of budget"):
        resolve(
            make_recipe(autoquant_step(budget_s=1, on_budget="none")),
            model=model,
            example_inputs=inputs,
            device="cpu",
            cache=cache,
            stopwatch=late,
            clock=lambda: next(ticks),
        )
    assert late.asked == []


def test_an_interrupted_run_keeps_what_it_finished(cache: Path) -> None:
    stopped = FakeStopwatch(interrupt_at=2)
    with pytest.raises(KeyboardInterrupt):
        run(make_recipe(), stopped, cache, ROWS)
    again = FakeStopwatch()
    run(make_recipe(), again, cache, ROWS)
    assert [shape.rows for shape, _ in stopped.asked] == [24, 48]
    assert [shape.rows for shape, _ in again.asked] == [96]


def test_a_corrupt_cache_is_told_and_measured_anew(cache: Path) -> None:
    cache.write_text("{")
    stopwatch = FakeStopwatch()
    resolution = run(make_recipe(), stopwatch, cache)
    assert len(stopwatch.asked) == 1
    assert "ignored" in resolution.notes[0]
    assert run(make_recipe(), FakeStopwatch(), cache).notes == ()


def test_twice_over_the_same_layers(cache: Path) -> None:
    first, second = autoquant_step({"include": ["blocks.0.**"]}), autoquant_step({"include": ["blocks.**"]})
    with pytest.raises(PlanError, match=r"steps.1.quantize.layers: blocks.0.first is quantized by steps.0 already"):
        run(make_recipe(first, second), FakeStopwatch(), cache)
    with pytest.raises(PlanError, match="steps.1.quantize: no linear of model is left to quantize"):
        run(make_recipe(autoquant_step(), autoquant_step()), FakeStopwatch(), cache)
    named = {"quantize": {"component": "model", "scheme": "int8_weight_only", "layers": {"include": ["blocks.0.**"]}}}
    with pytest.raises(PlanError, match=r"blocks.0.first is quantized by steps.0 already \(int8_weight_only\)"):
        run(make_recipe(named, second), FakeStopwatch(), cache)


def test_two_steps_over_different_layers(cache: Path) -> None:
    exact = autoquant_step({"include": ["blocks.0.**"]}, candidates=["int8_weight_only"])
    rest = autoquant_step({"include": ["blocks.*.first"], "exclude": ["blocks.0.**"]})
    resolution = run(make_recipe(exact, rest), FakeStopwatch(), cache)
    assert steps_of(resolution) == {
        "int8_weight_only": ["blocks.0.first", "blocks.0.second"],
        "int8_dynamic": ["blocks.1.first", "blocks.2.first"],
    }


def test_layers_quantized_by_name_are_not_measured_by_default(cache: Path) -> None:
    named = {"quantize": {"component": "model", "scheme": "int8_weight_only", "layers": {"include": ["blocks.0.**"]}}}
    resolution = run(make_recipe(named, autoquant_step()), FakeStopwatch(), cache)
    assert steps_of(resolution) == {"int8_weight_only": ["blocks.0.**"], "int8_dynamic": BLOCKS[2:]}


def test_candidates_for_other_machines_are_in_the_table(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No row of the table is for GPUs only yet, so one is made so.
    import dataclasses

    from qcompile.schemes import SCHEMES

    monkeypatch.setitem(SCHEMES, "int8_dynamic", dataclasses.replace(SCHEMES["int8_dynamic"], devices=("cuda",)))
    both = run(make_recipe(autoquant_step(candidates=["int8_dynamic", "int8_weight_only"])), FakeStopwatch(), cache)
    assert steps_of(both) == {"int8_weight_only": BLOCKS}
    (refused,) = [row for row in both.measurements if row.shape is None]
    assert (refused.scheme, refused.verdict) == ("int8_dynamic", "int8_dynamic runs on cuda, not on cpu")
    assert "int8_dynamic runs on cuda, not on cpu" in both.to_yaml()
    with pytest.raises(MachineError, match="can run none of them: int8_dynamic runs on cuda, not on cpu"):
        run(make_recipe(autoquant_step(candidates=["int8_dynamic"])), FakeStopwatch(), cache)


def test_a_compiler_that_does_not_work_is_the_machines_fault(cache: Path) -> None:
    broken = FakeStopwatch(LATENCIES_US | {"none": "fails: no C++ compiler"})
    with pytest.raises(
        MachineError, match="plain layer of 24x32 -> 32 float32 can't be compiled.*no C.. compiler.*doctor"
    ):
        run(make_recipe(), broken, cache)


def test_only_compiled_layers_are_measured(cache: Path) -> None:
    recipe = recipes.parse(yaml.safe_dump(make_recipe().data | {"steps": [autoquant_step()]}))
    with pytest.raises(PlanError, match=r"steps.0.quantize.scheme: .* no later step compiles model.*compile: "):
        run(recipe, FakeStopwatch(), cache)


def test_only_the_denoiser_is_measured(cache: Path) -> None:
    step = {"quantize": {"component": "text_encoder_2", "scheme": "autoquant"}}
    recipe = recipes.parse(yaml.safe_dump(demo_data() | {"steps": [step, demo_data()["steps"][-1]]}))
    with pytest.raises(PlanError, match="steps.0.quantize.component: .*denoiser .transformer.*text_encoder_2"):
        resolve(recipe, device="cpu", cache=cache, stopwatch=FakeStopwatch())


def test_a_layer_that_is_never_called(cache: Path) -> None:
    model, inputs = tiny()
    model.spare = torch.nn.Linear(8, 8)
    with pytest.raises(PlanError, match="spare is not called by any declared shape.*Exclude it"):
        resolve(
            make_recipe(autoquant_step({"include": ["spare", "blocks.**"]})),
            model=model,
            example_inputs=inputs,
            device="cpu",
            cache=cache,
            stopwatch=FakeStopwatch(),
        )


@settings(max_examples=25, deadline=None)
@given(
    latencies=st.fixed_dictionaries({name: st.floats(1, 1000) for name in LATENCIES_US}),
    bound=st.floats(0, 60),
)
def test_whatever_is_measured_the_recipe_is_whole(
    latencies: dict[str, float], bound: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each layer once at most, never slower than none, never under the bound, and the rest of the recipe untouched."""
    cache = tmp_path_factory.mktemp("cache") / "autoquant.json"
    recipe = make_recipe(autoquant_step(min_sqnr_db=bound))
    try:
        resolution = run(recipe, FakeStopwatch(dict(latencies)), cache)
    except PlanError as error:
        assert "no candidate is worth it" in str(error)
        return
    chosen = [(name, scheme) for scheme, names in steps_of(resolution).items() for name in names]
    assert len({name for name, _ in chosen}) == len(chosen)
    assert all(latencies[scheme] < latencies["none"] for _, scheme in chosen)
    assert resolution.recipe.data["steps"][-1] == recipe.data["steps"][-1]
    assert {**resolution.recipe.data, "steps": None} == {**recipe.data, "steps": None}


def test_the_whole_demo_with_its_rewriting_steps(cache: Path) -> None:
    """fuse_qkv runs before layers are chosen, so that fused layers are measured and named."""
    data = demo_data()
    data["steps"][2] = {
        "quantize": {
            "component": "transformer",
            "scheme": "autoquant",
            "layers": {"include": ["transformer_blocks.**"], "exclude": ["**.norm*.**"]},
            "autoquant": {"min_sqnr_db": 20},
        }
    }
    resolution = resolve(recipes.parse(yaml.safe_dump(data)), device="cpu", cache=cache, stopwatch=FakeStopwatch())
    layers = resolution.recipe.data["steps"][2]["quantize"]["layers"]["include"]
    assert "transformer_blocks.0.attn.to_qkv" in layers
    planned = plan(resolution.recipe, device="cpu")
    changed = [change.module for change in planned.changes if change.kind == "quantize" and change.action]
    assert changed == layers


def test_a_live_pipeline_stays_as_it_is(cache: Path) -> None:
    from qcompile.pipeline import load_pipeline
    from qcompile.source import find_folder

    data = demo_data()
    data["steps"][2] = {
        "quantize": {"component": "transformer", "scheme": "autoquant", "autoquant": {"min_sqnr_db": 20}}
    }
    pipeline = load_pipeline(find_folder("builtin:flux-mini", None), torch.bfloat16, torch.device("cpu"))
    before = {name: tensor.data_ptr() for name, tensor in pipeline.transformer.state_dict().items()}
    names = [name for name, _ in pipeline.transformer.named_modules()]
    resolution = resolve(recipes.parse(yaml.safe_dump(data)), pipeline=pipeline, cache=cache, stopwatch=FakeStopwatch())
    assert [name for name, _ in pipeline.transformer.named_modules()] == names
    assert {name: tensor.data_ptr() for name, tensor in pipeline.transformer.state_dict().items()} == before
    assert "transformer_blocks.0.attn.to_qkv" in resolution.recipe.data["steps"][2]["quantize"]["layers"]["include"]
