import math

import pytest
import torch

from qcompile.aot.compare import relative_error


def test_the_largest_error_of_all_tensors_counts() -> None:
    reference = (torch.tensor([3.0, 4.0]), [torch.tensor([1.0])])
    value = (torch.tensor([3.0, 4.5]), [torch.tensor([1.2])])
    assert relative_error(value, reference) == pytest.approx(0.2)
    assert relative_error(reference, reference) == 0.0
    assert relative_error({"a": torch.ones(2)}, {"a": torch.ones(2)}) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_within_no_bound(bad: float) -> None:
    good = torch.ones(2)
    assert math.isnan(relative_error(torch.tensor([1.0, bad]), good))
    assert math.isnan(relative_error(good, torch.tensor([1.0, bad])))
    assert math.isnan(relative_error((good, torch.tensor([bad])), (good, torch.ones(1))))


def test_outputs_of_different_structure_are_never_equal() -> None:
    assert math.isnan(relative_error(torch.ones(2), torch.ones(3)))
    with pytest.raises(ValueError, match="zip"):
        relative_error((torch.ones(1),), (torch.ones(1), torch.ones(1)))
