"""Every row of the scheme table is walked through what it claims, on a GPU."""

from pathlib import Path

import pytest
import torch
from schemes.layers import MAX_ERROR, error
from schemes.walk import noise, pair, walk_aot, walk_artifact, walk_jit

from qcompile.schemes import SCHEMES

FEATURES = 256
"""Linears of 256 to 512 and 512 to 256 features, called with 64 rows."""


def skip_where_it_can_not_run(name: str, *claims: str) -> None:
    scheme = SCHEMES[name]
    why_not = scheme.why_not_machine("cuda", torch.cuda.get_device_capability())
    why_not = why_not or next(filter(None, (getattr(scheme, claim) for claim in claims)), None)
    if why_not:
        pytest.skip(why_not)


@pytest.mark.parametrize("name", SCHEMES)
def test_plan_quantize_save_load_compare(name: str, tmp_path: Path) -> None:
    skip_where_it_can_not_run(name, "why_not_saved")
    walk_artifact(name, FEATURES, "cuda:0", tmp_path / "artifact")


@pytest.mark.parametrize("name", SCHEMES)
def test_compile_jit(name: str) -> None:
    skip_where_it_can_not_run(name, "why_not_jit")
    walk_jit(name, FEATURES, "cuda:0")


@pytest.mark.parametrize("name", SCHEMES)
def test_compile_aot(name: str, tmp_path: Path) -> None:
    skip_where_it_can_not_run(name, "why_not_aot")
    walk_aot(name, FEATURES, "cuda:0", tmp_path)


@pytest.mark.parametrize("name", SCHEMES)
def test_rows_of_zeros_stay_finite(name: str) -> None:
    """Padded tokens are zeros: torchao's float8 makes NaN of them where no lower bound is set."""
    skip_where_it_can_not_run(name)
    module, hidden = pair(name, FEATURES, "cuda:0"), noise(FEATURES, "cuda:0")
    whole = module(hidden)
    hidden[0, 5:9] = 0
    found = module(hidden)
    assert found.isfinite().all()
    assert error(found[0, 10:], whole[0, 10:]) < 2 * MAX_ERROR[name] + 1e-6


@pytest.mark.parametrize("name", SCHEMES)
def test_weights_move_to_the_cpu_and_back(name: str) -> None:
    skip_where_it_can_not_run(name)
    module, hidden = pair(name, FEATURES, "cuda:0"), noise(FEATURES, "cuda:0")
    expected = module(hidden)
    module.to("cpu")
    assert SCHEMES[name].recognise(module.first.weight)
    module.to("cuda:0")
    assert torch.equal(module(hidden), expected)
