import math

import pytest
import torch
from aot.tiny import make_call, make_model
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autoquant.fakes import LATENCIES_US
from qcompile.autoquant.candidates import in_scheme
from qcompile.autoquant.survey import LinearShape, sqnr_db, survey
from qcompile.modules import linears
from qcompile.schemes import SCHEMES

CANDIDATES = [name for name in LATENCIES_US if name != "none"]


@given(st.floats(-60, 80))
def test_sqnr_of_noise_that_is_known(level_db: float) -> None:
    signal = torch.ones(4, 8, dtype=torch.float64)
    noise = 10 ** (-level_db / 20)
    assert sqnr_db(signal, signal + noise) == pytest.approx(level_db, abs=1e-3 * 10 ** max(0, level_db / 20 - 2))


def test_sqnr_at_the_ends() -> None:
    signal = torch.ones(4, 8)
    assert sqnr_db(signal, signal) == math.inf
    assert sqnr_db(torch.zeros(4), torch.zeros(4)) == math.inf
    assert sqnr_db(torch.zeros(4), torch.ones(4)) == -math.inf
    for value in (math.nan, math.inf):
        assert sqnr_db(signal, torch.full((4, 8), value)) == -math.inf
    # bfloat16 has too few digits to hold the sum of its own squares.
    assert sqnr_db(
        torch.ones(4096, dtype=torch.bfloat16), 1.5 * torch.ones(4096, dtype=torch.bfloat16)
    ) == pytest.approx(6.0206, abs=1e-3)


def test_every_call_of_every_layer_is_seen() -> None:
    model = make_model()
    layers = {name: layer for name, layer in linears(model).items() if "first" in name}
    found = survey(model, layers, {"a": make_call(24), "b": make_call(48)}, CANDIDATES, "cpu", lambda: False)
    shapes = [LinearShape(rows, 32, 32, "float32", True) for rows in (24, 48)]
    assert found.calls == dict.fromkeys(layers, shapes)
    assert list(found.samples) == shapes
    assert found.sqnr_db.keys() == {(name, scheme) for name in layers for scheme in CANDIDATES}
    layer, activation = found.samples[shapes[0]]
    assert layer is not model.blocks[0].first
    assert torch.equal(layer.weight, model.blocks[0].first.weight)
    assert torch.equal(layer.bias, model.blocks[0].first.bias)
    assert activation.shape == (1, 24, 32)


def test_the_worst_call_of_a_layer_counts() -> None:
    model = make_model()
    layers = {"blocks.0.first": model.blocks[0].first}
    one, other = (
        survey(model, layers, {"a": call}, CANDIDATES, "cpu", lambda: False).sqnr_db
        for call in (make_call(24), make_call(48))
    )
    both = survey(model, layers, {"a": make_call(24), "b": make_call(48)}, CANDIDATES, "cpu", lambda: False).sqnr_db
    assert both == {key: min(one[key], other[key]) for key in one}
    assert one != other


def test_without_time_calls_are_counted_and_errors_are_not_measured() -> None:
    model = make_model()
    found = survey(model, {"embed": model.embed}, {"a": make_call(24)}, CANDIDATES, "cpu", lambda: True)
    assert found.calls["embed"] == [LinearShape(24, 8, 32, "float32", True)]
    assert found.sqnr_db == {}


def test_limits_of_the_row_and_failures_of_the_backend_are_obstacles(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()

    def broken(scheme: str, layer: nn.Linear, activation: torch.Tensor) -> nn.Module:
        # Nothing fails on a CPU, so one scheme is made to.
        if scheme == "int8_weight_only":
            raise ImportError("no such kernel\nand a long story")
        return in_scheme(scheme, layer, activation)

    monkeypatch.setattr("qcompile.autoquant.survey.in_scheme", broken)
    few = survey(model, {"embed": model.embed}, {"a": make_call(1)}, CANDIDATES, "cuda", lambda: False)
    assert few.obstacles == {
        ("embed", "int8_dynamic"): "int8_dynamic compiled for cuda needs 17 rows or more",
        ("embed", "int8_weight_only"): "fails: no such kernel",
    }
    assert few.sqnr_db.keys() == {("embed", "float8_weight_only")}


@pytest.mark.parametrize("scheme", CANDIDATES)
@pytest.mark.parametrize("bias", [True, False])
def test_one_layer_in_a_scheme_is_what_the_step_makes(scheme: str, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(32, 16, bias=bias).requires_grad_(False)
    activation = torch.randn(24, 32)
    alone = in_scheme(scheme, layer, activation)
    assert SCHEMES[scheme].recognise(alone.layer.weight)
    assert type(layer.weight) is nn.Parameter
    assert 20 < sqnr_db(layer(activation), alone(activation)) < 70
    assert torch.equal(in_scheme("none", layer, activation)(activation), layer(activation))
