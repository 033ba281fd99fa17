import numpy as np
import pytest
import torch
from torch import nn

from qcompile.quality.faults import first_constant, first_not_finite, image_fault


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.GELU()), nn.Linear(4, 4)).requires_grad_(
        False
    )


def test_the_first_layer_is_named_with_its_weights() -> None:
    broken = model()
    broken[1][0].weight[2, 2] = float("nan")
    broken[2].bias[0] = float("inf")
    found = first_not_finite({"transformer": broken}, lambda: broken(torch.ones(1, 4)))
    assert str(found) == (
        "transformer.1.0 (Linear) is the first module whose output holds NaN or infinity; so does its weight"
    )
    assert not any(module._forward_hooks for module in broken.modules())


def test_a_layer_that_overflows_has_no_bad_weights() -> None:
    broken = model().half()
    broken[2].weight.fill_(6e4)
    found = first_not_finite({"vae": broken}, lambda: broken(torch.full((1, 4), 6e4, dtype=torch.float16)))
    assert found is not None
    assert found.weights == ()


def test_nothing_is_found_where_all_is_finite() -> None:
    whole = model()
    ran = []
    assert first_not_finite({"a": whole}, lambda: ran.append(whole(torch.ones(1, 4)))) is None
    assert len(ran) == 1


def test_code_of_torch_compile_is_looked_into() -> None:
    broken = model()
    broken[1][0].weight[0, 0] = float("nan")
    broken.compile(backend="eager")
    broken(torch.ones(1, 4))
    found = first_not_finite({"a": broken}, lambda: broken(torch.ones(1, 4)))
    assert found is not None
    assert found.module == "1.0"


def test_the_first_layer_that_gives_one_value_throughout_is_named() -> None:
    broken = model()
    assert first_constant({"vae": broken}, lambda: broken(torch.ones(1, 4))) is None
    broken[1][0].weight.zero_()
    broken[1][0].bias.fill_(-1.0)
    found = first_constant({"vae": broken}, lambda: broken(torch.ones(1, 4)))
    assert str(found) == "vae.1.0 (Linear) is the first module whose output is one value throughout"


@pytest.mark.parametrize(
    ("value", "place", "expected"),
    [
        (0.0, None, "is black"),
        (0.0005, None, "is black"),
        (0.5, None, "is of one colour"),
        (0.5, 0.25, None),
        (0.5, float("nan"), "holds values that are not finite"),
    ],
)
def test_image_faults(value: float, place: float | None, expected: str | None) -> None:
    image = np.full((8, 8, 3), value)
    if place is not None:
        image[3, 3, 1] = place
    assert image_fault(image) == expected
