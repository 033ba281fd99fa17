"""From a recipe with autoquant to an explicit one, with a timer that needs no compiler."""

from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from autoquant.fakes import BLOCKS, LATENCIES_US, FakeTimer, autoquant_step, make_recipe, run, steps_of, tiny
from qcompile import recipe as recipes
from qcompile.autoquant import resolve
from qcompile.autoquant.survey import LinearShape
from qcompile.errors import MachineError, PlanError


def test_the_fastest_is_written_with_the_names_of_its_layers(cache: Path) -> None:
    timer = FakeTimer()
    resolution = run(make_recipe(), timer, cache)
    assert steps_of(resolution) == {"int8_dynamic": BLOCKS}
    # Six layers, one shape: one measurement.
    assert timer.asked == [
        (LinearShape(24, 32, 32, "float32", True), ("none", "int8_dynamic", "int8_weight_only", "float8_weight_only"))
    ]
    assert [step.kind for step in resolution.recipe.steps] == ["quantize", "compile"]


def test_layers_left_out_by_the_selector_are_not_looked_at(cache: Path) -> None:
    step = autoquant_step({"include": ["blocks.1.**"], "exclude": ["**.second"]})
    assert steps_of(run(make_recipe(step), FakeTimer(), cache)) == {"int8_dynamic": ["blocks.1.first"]}


def test_the_explicit_recipe_measures_nothing(cache: Path) -> None:
    resolution = run(make_recipe(), FakeTimer(), cache)
    again = recipes.parse(resolution.to_yaml(), "tiny.yaml")
    assert again.data == resolution.recipe.data
    idle = FakeTimer()
    assert run(again, idle, cache).recipe is again
    assert idle.asked == []


def test_recipe_and_model_stay_as_they_are(cache: Path) -> None:
    recipe = make_recipe()
    before = yaml.safe_dump(recipe.data)
    model, inputs = tiny()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    timer = FakeTimer()
    resolve(recipe, model=model, example_inputs=inputs, device="cpu", cache=cache, timer=timer)
    assert yaml.safe_dump(recipe.data) == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert type(model.blocks[0].first.weight) is torch.nn.Parameter


def test_several_shapes_are_judged_by_the_sum(cache: Path) -> None:
    def latencies_us(shape: LinearShape) -> dict[str, float | str]:
        # int8_dynamic wins where there are many rows and loses where there are few.
        return LATENCIES_US | ({"int8_dynamic": 150.0} if shape.rows == 24 else {"int8_dynamic": 20.0})

    alone = run(make_recipe(), FakeTimer(latencies_us), cache, rows=(24,))
    assert steps_of(alone) == {"int8_weight_only": BLOCKS}
    # 150 + 20 us against 80 + 80, then 150 + 20 + 20 against 80 + 80 + 80.
    two = run(make_recipe(), FakeTimer(latencies_us), cache, rows=(24, 48))
    assert steps_of(two) == {"int8_weight_only": BLOCKS}
    assert {row.shape.rows for row in two.measurements if row.shape} == {24, 48}
    three = run(make_recipe(), FakeTimer(latencies_us), cache, rows=(24, 48, 96))
    assert steps_of(three) == {"int8_dynamic": BLOCKS}


def test_a_layer_is_as_accurate_as_the_recipe_asks(cache: Path) -> None:
    free = run(make_recipe(autoquant_step(min_sqnr_db=0)), FakeTimer(), cache)
    worst = {row.scheme: row.sqnr_db for row in free.measurements if row.scheme != "none"}
    assert 25 < worst["float8_weight_only"] < worst["int8_dynamic"] < worst["int8_weight_only"] < 70
    # A bound that only one candidate holds in all layers.
    bound = (worst["int8_dynamic"] + worst["int8_weight_only"]) / 2
    strict = run(make_recipe(autoquant_step(min_sqnr_db=bound)), FakeTimer(), cache)
    schemes = steps_of(strict)
    assert "float8_weight_only" not in schemes
    for row in strict.measurements:
        if row.num_taken == row.num_layers and row.scheme != "none":
            assert row.sqnr_db is not None
            assert row.sqnr_db >= bound
    taken = {name for names in schemes.values() for name in names}
    assert taken == set(BLOCKS)


def test_inaccurate_candidates_are_not_timed(cache: Path) -> None:
    timer = FakeTimer()
    with pytest.raises(
        PlanError, match=r"steps\.0\.quantize: no candidate is worth it.*under 90 dB.*take the step out"
    ):
        run(make_recipe(autoquant_step(min_sqnr_db=90)), timer, cache)
    assert timer.asked == []


def test_nothing_gained_is_an_error_that_says_so(cache: Path) -> None:
    slow = FakeTimer({"none": 50.0, "int8_dynamic": 60.0, "int8_weight_only": 49.0, "float8_weight_only": "fails: no"})
    with pytest.raises(
        PlanError,
        match=r"for any of the 6 layers on this machine: float8_weight_only fails: no; int8_dynamic not faster than none; "
        r"int8_weight_only not faster than none.*take the step out",
    ):
        run(make_recipe(), slow, cache)


def test_twice_over_the_same_layers(cache: Path) -> None:
    first, second = autoquant_step({"include": ["blocks.0.**"]}), autoquant_step({"include": ["blocks.**"]})
    with pytest.raises(PlanError, match=r"steps.1.quantize.layers: blocks.0.first is quantized by steps.0 already"):
        run(make_recipe(first, second), FakeTimer(), cache)
    with pytest.raises(PlanError, match="steps.1.quantize: no linear of model is left to quantize"):
        run(make_recipe(autoquant_step(), autoquant_step()), FakeTimer(), cache)
    named = {"quantize": {"component": "model", "scheme": "int8_weight_only", "layers": {"include": ["blocks.0.**"]}}}
    with pytest.raises(PlanError, match=r"blocks.0.first is quantized by steps.0 already \(int8_weight_only\)"):
        run(make_recipe(named, second), FakeTimer(), cache)


def test_two_steps_over_different_layers(cache: Path) -> None:
    exact = autoquant_step({"include": ["blocks.0.**"]}, candidates=["int8_weight_only"])
    rest = autoquant_step({"include": ["blocks.*.first"], "exclude": ["blocks.0.**"]})
    resolution = run(make_recipe(exact, rest), FakeTimer(), cache)
    assert steps_of(resolution) == {
        "int8_weight_only": ["blocks.0.first", "blocks.0.second"],
        "int8_dynamic": ["blocks.1.first", "blocks.2.first"],
    }


def test_layers_quantized_by_name_are_not_measured_by_default(cache: Path) -> None:
    named = {"quantize": {"component": "model", "scheme": "int8_weight_only", "layers": {"include": ["blocks.0.**"]}}}
    resolution = run(make_recipe(named, autoquant_step()), FakeTimer(), cache)
    assert steps_of(resolution) == {"int8_weight_only": ["blocks.0.**"], "int8_dynamic": BLOCKS[2:]}


def test_candidates_for_other_machines_are_in_the_table(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No row of the table is for GPUs only yet, so one is made so.
    import dataclasses

    from qcompile.schemes import SCHEMES

    monkeypatch.setitem(SCHEMES, "int8_dynamic", dataclasses.replace(SCHEMES["int8_dynamic"], devices=("cuda",)))
    both = run(make_recipe(autoquant_step(candidates=["int8_dynamic", "int8_weight_only"])), FakeTimer(), cache)
    assert steps_of(both) == {"int8_weight_only": BLOCKS}
    (refused,) = [row for row in both.measurements if row.shape is None]
    assert (refused.scheme, refused.verdict) == ("int8_dynamic", "int8_dynamic runs on cuda, not on cpu")
    assert "int8_dynamic runs on cuda, not on cpu" in both.to_yaml()
    with pytest.raises(MachineError, match="can run none of them: int8_dynamic runs on cuda, not on cpu"):
        run(make_recipe(autoquant_step(candidates=["int8_dynamic"])), FakeTimer(), cache)


def test_a_compiler_that_does_not_work_is_the_machines_fault(cache: Path) -> None:
    broken = FakeTimer(LATENCIES_US | {"none": "fails: no C++ compiler"})
    with pytest.raises(
        MachineError, match="plain layer of 24x32 -> 32 float32 can't be compiled.*no C.. compiler.*doctor"
    ):
        run(make_recipe(), broken, cache)


def test_text_of_a_backend_stays_inside_the_comment(cache: Path) -> None:
    # From a cache that somebody else wrote, for one: what the timer gives is kept there as it is.
    hostile = "fails: no\nname: other\u2028steps: []\r# "
    resolution = run(make_recipe(), FakeTimer(LATENCIES_US | {"int8_dynamic": hostile}), cache)
    again = run(make_recipe(), FakeTimer(), cache)
    for found in (resolution, again):
        assert recipes.parse(found.to_yaml(), "tiny.yaml").data == found.recipe.data
        assert "fails: no name: other steps: []" in found.comment()


def test_only_compiled_layers_are_measured(cache: Path) -> None:
    recipe = recipes.parse(yaml.safe_dump(make_recipe().data | {"steps": [autoquant_step()]}))
    with pytest.raises(PlanError, match=r"steps.0.quantize.scheme: .* no later step compiles model.*compile: "):
        run(recipe, FakeTimer(), cache)


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
            timer=FakeTimer(),
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
        resolution = run(recipe, FakeTimer(dict(latencies)), cache)
    except PlanError as error:
        assert "no candidate is worth it" in str(error)
        return
    chosen = [(name, scheme) for scheme, names in steps_of(resolution).items() for name in names]
    assert len({name for name, _ in chosen}) == len(chosen)
    assert all(latencies[scheme] < latencies["none"] for _, scheme in chosen)
    assert resolution.recipe.data["steps"][-1] == recipe.data["steps"][-1]
    assert {**resolution.recipe.data, "steps": None} == {**recipe.data, "steps": None}
