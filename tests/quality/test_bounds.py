import math

import pytest

from qcompile.errors import PlanError, VerifyError
from qcompile.header import Bounds
from qcompile.quality.bounds import Check, Measured, checks, refuse, refuse_unmeasurable, worst

MEASURED = Measured(
    quantized_errors={"a": 0.04, "b": 0.03},
    compiled_errors={"a": 0.001},
    step_errors=(0.01, 0.06, 0.02),
    psnr_db=(30.0, None, 20.0),
    ssim=(0.9, 1.0, 0.7),
    score_percent=97.0,
    score_loss_points=2.0,
)
FIGURES = {
    "max_relative_error": 0.04,
    "max_compiled_error": 0.001,
    "max_step_error": 0.06,
    "min_psnr_db": 30.0,
    "min_ssim": 0.9,
    "max_score_loss_points": 2.0,
}


def missed(**bounds: float) -> list[str]:
    return [check.bound for check in checks(Bounds(**bounds), MEASURED, "transformer") if not check.holds]


@pytest.mark.parametrize(("bound", "value"), FIGURES.items())
def test_a_bound_just_met_and_just_missed(bound: str, value: float) -> None:
    tighter = 1.001 if bound.startswith("min_") else 0.999
    assert missed(**{bound: value}) == []
    assert missed(**{bound: value * tighter}) == [bound]


def test_every_bound_of_a_recipe_is_checked() -> None:
    assert set(Bounds.model_fields) == set(FIGURES)
    found = checks(Bounds(**FIGURES), MEASURED, "transformer")
    assert {check.bound for check in found} == set(FIGURES)


def test_bounds_that_are_not_set_are_not_checked_but_for_finite_values() -> None:
    assert missed() == []
    assert [check.limit for check in checks(Bounds(), MEASURED, "transformer") if check.bound == "max_step_error"] == [
        None
    ]
    broken = Measured(quantized_errors={"a": math.nan})
    assert [check.holds for check in checks(Bounds(), broken, "unet")] == [False]


def test_images_that_equal_the_original_meet_any_psnr() -> None:
    same = Measured(psnr_db=(None, None), ssim=(1.0, 1.0))
    assert same.median_psnr_db is None
    assert all(check.holds for check in checks(Bounds(min_psnr_db=200), same, "unet"))


def test_images_too_small_for_ssim_do_not_meet_a_bound_on_it() -> None:
    small = Measured(psnr_db=(30.0,))
    found = checks(Bounds(min_ssim=0.5, min_psnr_db=20), small, "unet")
    assert {check.bound: check.holds for check in found} == {"min_ssim": False, "min_psnr_db": True}


def test_the_message_names_bound_value_and_place() -> None:
    with pytest.raises(VerifyError) as caught:
        refuse(checks(Bounds(max_step_error=0.05), MEASURED, "transformer"))
    assert str(caught.value).startswith(
        "verify.max_step_error: the relative error of transformer at call 2 of 3 along the original's trajectory is "
        "0.06; the recipe allows at most 0.05. Nothing was put in place. "
    )
    assert "--set verify.max_step_error=null" in str(caught.value)
    assert "--suggest --bound max_step_error=0.05`" in str(caught.value)
    with pytest.raises(VerifyError, match="at most 0.0005. .* Take out compiler options"):
        refuse(checks(Bounds(max_compiled_error=0.0005), MEASURED, "transformer"))
    with pytest.raises(VerifyError, match=r"verify.min_ssim: the median SSIM of 3 images is 0.9; .* at least 0.95"):
        refuse(checks(Bounds(min_ssim=0.95), MEASURED, "transformer"))
    refuse(checks(Bounds(), MEASURED, "transformer"))


def test_not_a_number_where_no_bound_is_set() -> None:
    with pytest.raises(VerifyError, match="for a is nan; the recipe allows finite values"):
        refuse(checks(Bounds(), Measured(quantized_errors={"a": math.nan}), "unet"))


@pytest.mark.parametrize("limit", [None, 1.0, math.inf])
def test_not_a_number_meets_nothing(limit: float | None) -> None:
    assert not Check("max_step_error", math.nan, limit, "").holds
    assert not Check("min_ssim", math.nan, limit, "").holds


def test_the_worst_value_is_the_one_that_is_no_number() -> None:
    assert worst((0.1, 0.3, 0.2)) == 1
    assert worst((0.1, math.nan, 5.0)) == 1


@pytest.mark.parametrize(
    ("bound", "there"),
    [
        ("max_step_error", (False, True, True)),
        ("min_psnr_db", (True, False, True)),
        ("min_ssim", (True, False, True)),
        ("max_score_loss_points", (True, True, False)),
    ],
)
def test_bounds_on_what_there_is_not(bound: str, there: tuple[bool, bool, bool]) -> None:
    with pytest.raises(PlanError, match=f"verify.{bound}: "):
        refuse_unmeasurable(Bounds(**{bound: 0.5}), *there)
    refuse_unmeasurable(Bounds(**{bound: 0.5}), True, True, True)
    refuse_unmeasurable(Bounds(), *there)
