"""The options of `scheme: autoquant`, and what a plan says about it."""

import pytest
import yaml
from aot.tiny import make_model
from conftest import demo_data

from qcompile import recipe as recipes
from qcompile.errors import PlanError, RecipeError
from qcompile.planner import plan
from qcompile.steps.quantize import Quantize
from steps.test_steps import target


def parse(scheme: str = "autoquant", **options: object) -> recipes.Recipe:
    step = {"quantize": {"component": "transformer", "scheme": scheme, "autoquant": options}}
    return recipes.parse(yaml.safe_dump(demo_data() | {"steps": [step, demo_data()["steps"][-1]]}), "mine.yaml")


def test_defaults() -> None:
    step = parse().steps[0]
    assert isinstance(step, Quantize)
    assert step.autoquant is not None
    assert (step.autoquant.candidates, step.autoquant.on_budget) == (None, "error")
    assert step.autoquant.min_sqnr_db == 25
    assert step.autoquant.budget_s == 600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": ["int8_dinamic"]}, "no scheme is called 'int8_dinamic'; did you mean 'int8_dynamic'?"),
        ({"candidates": ["autoquant"]}, "no scheme is called 'autoquant'"),
        ({"candidates": ["int8_dynamic", "int8_dynamic"]}, "'int8_dynamic' is there twice"),
        ({"candidates": ["none"]}, "'none' is measured in any case; take it out"),
        ({"candidates": []}, "at least 1 item"),
        ({"budget_s": 0}, "autoquant.budget_s: input should be greater than 0, not 0"),
        ({"budget_s": -5.5}, "autoquant.budget_s: input should be greater than 0, not -5.5"),
        ({"budget_s": float("inf")}, "autoquant.budget_s: inf is not a finite number"),
        ({"min_sqnr_db": float("inf")}, "autoquant.min_sqnr_db: inf is not a finite number"),
        ({"min_sqnr_db": float("nan")}, "autoquant.min_sqnr_db: nan is not a finite number"),
        ({"min_sqnr_db": "high"}, "autoquant.min_sqnr_db: input should be a valid number"),
        ({"on_budget": "skip"}, "autoquant.on_budget: input should be 'none' or 'error'"),
        ({"budget": 5}, "unknown key 'budget'; did you mean 'budget_s'?"),
    ],
)
def test_wrong_options_are_refused_with_their_place(options: dict, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(**options)
    assert message in str(caught.value)
    assert "mine.yaml:" in str(caught.value)
    assert "steps.0.quantize.autoquant" in str(caught.value)


def test_options_without_the_scheme_are_refused() -> None:
    with pytest.raises(RecipeError, match="the block autoquant goes with scheme: autoquant, not with int8_dynamic"):
        parse(scheme="int8_dynamic")


@pytest.mark.parametrize("option", ["group_size", "weight_bits"])
def test_options_of_one_scheme_are_refused(option: str) -> None:
    step = {"quantize": {"component": "transformer", "scheme": "autoquant", option: 4}}
    text = yaml.safe_dump(demo_data() | {"steps": [step, demo_data()["steps"][-1]]})
    with pytest.raises(
        RecipeError, match=f"steps.0.quantize: autoquant measures schemes at their defaults, so {option}"
    ):
        recipes.parse(text)


def test_a_misspelt_scheme_may_mean_it() -> None:
    with pytest.raises(RecipeError, match="did you mean 'autoquant'"):
        parse(scheme="autoquantize")


def test_a_plan_says_who_measures() -> None:
    with pytest.raises(
        PlanError, match=r"steps.0.quantize.scheme: .*`qcompile plan --resolve RECIPE`.*`qcompile apply`"
    ):
        plan(parse(), device="cpu")


def test_the_layers_to_choose_for_are_those_of_the_selector() -> None:
    step = Quantize(component="model", scheme="autoquant")
    found = step.chosen(target(make_model()))
    assert {change.module for change in found if change.action == "autoquant"} == {
        f"blocks.{index}.{name}" for index in range(3) for name in ("first", "second")
    }
    assert all(change.bytes_after == change.bytes_before for change in found)
