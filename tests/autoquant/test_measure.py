"""Real compiled code on the CPU, and the order in which samples are taken."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from conftest import RECIPES
from torch import nn

from autoquant.fakes import FakeTimer
from qcompile import recipe as recipes
from qcompile.aot.options import BASE
from qcompile.autoquant import measure, resolve
from qcompile.autoquant.decide import Timing
from qcompile.autoquant.measure import time_compiled, timing_of
from qcompile.errors import PlanError


def test_median_and_half_the_interquartile_range() -> None:
    assert timing_of([1e-6, 2e-6, 3e-6, 4e-6, 5e-6]) == Timing(pytest.approx(3), pytest.approx(1))
    # A pause of the machine moves neither.
    assert timing_of([1e-6, 2e-6, 3e-6, 4e-6, 5.0]) == Timing(pytest.approx(3), pytest.approx(1))


def test_candidates_take_turns() -> None:
    order: list[str] = []

    def sample(call, repeats: int) -> list[float]:
        call()
        return [1.0] * repeats

    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    samples = measure._interleave(calls, sample)
    assert order == list("abc") * (len(order) // 3)
    assert len(order) // 3 > measure.MIN_ROUNDS
    assert {len(found) for found in samples.values()} == {len(order) // 3 - 1}  # the first turn sets the repeats
    assert measure._interleave({}, sample) == {}


def make_layer() -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Linear(64, 32).requires_grad_(False), torch.randn(2, 24, 64)


@pytest.mark.slow
def test_a_slow_layer_takes_longer() -> None:
    layer, activation = make_layer()
    (small,) = time_compiled(layer, activation, ["none"], lambda: False).values()
    large = time_compiled(nn.Linear(2048, 2048).requires_grad_(False), torch.randn(256, 2048), ["none"], lambda: True)
    assert isinstance(small, Timing)
    assert isinstance(large["none"], Timing)
    assert 1 < small.median_us < large["none"].median_us / 5


@pytest.mark.slow
def test_many_variants_are_all_compiled() -> None:
    """torch compiles eight variants of one function and runs the next ones eagerly without a word."""
    from torch._dynamo.utils import counters

    layer, activation = make_layer()
    wanted = torch._dynamo.config.recompile_limit + 4
    counters.clear()
    found = [measure._compiled(measure.in_scheme("none", layer, activation), BASE) for _ in range(wanted)]
    with torch.no_grad():
        for run in found:
            torch.testing.assert_close(run(activation), layer(activation))
    assert counters["stats"]["unique_graphs"] == wanted


@pytest.mark.slow
def test_failures_and_the_end_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, activation = make_layer()
    real = measure.in_scheme

    def in_scheme(scheme: str, *rest: object) -> nn.Module:
        # No backend fails and no memory ends here, so two schemes are made to.
        if scheme == "int8_weight_only":
            raise RuntimeError("no kernel\nfor this")
        if scheme == "float8_weight_only":
            raise torch.OutOfMemoryError
        return real(scheme, *rest)

    monkeypatch.setattr(measure, "in_scheme", in_scheme)
    left = iter([False, False, True])
    found = time_compiled(
        layer, activation, ["none", "int8_weight_only", "float8_weight_only", "int8_dynamic"], lambda: next(left)
    )
    assert isinstance(found.pop("none"), Timing)
    assert found == {"int8_weight_only": "fails: no kernel", "float8_weight_only": measure.OUT_OF_MEMORY}


@pytest.mark.slow
def test_the_embedded_model_for_real(tmp_path: Path) -> None:
    """The gallery's recipe over one block's MLP, with real code and real latencies."""
    data = yaml.safe_load((RECIPES / "flux_mini_autoquant.yaml").read_text(encoding="utf-8"))
    options = data["steps"][2]["quantize"]
    options["layers"] = {"include": ["single_transformer_blocks.0.proj_*"]}
    options["autoquant"]["candidates"] = ["int8_dynamic", "float8_weight_only"]
    recipe = recipes.parse(yaml.safe_dump(data))
    for attempt in range(3):
        cache = tmp_path / f"{attempt}.json"
        with suppress(PlanError):  # int8 halves the time, but on a busy machine the spread can be as large
            resolution = resolve(recipe, device="cpu", cache=cache)
            break
    print(resolution.to_yaml())
    rows = {(str(row.shape), row.scheme): row for row in resolution.measurements}
    for shape in ("288x192 -> 768 float32", "288x960 -> 192 float32"):
        none, fast = rows[shape, "none"], rows[shape, "int8_dynamic"]
        assert none.timing is not None
        assert fast.timing is not None
        assert fast.sqnr_db is not None
        assert fast.sqnr_db > 30
        if fast.num_taken:
            assert fast.timing.median_us < none.timing.median_us
        # A float8 weight is turned back into float32 before the product: the same work and more.
        assert rows[shape, "float8_weight_only"].num_taken == 0
    idle = FakeTimer(interrupt_at=0)
    assert resolve(recipe, device="cpu", cache=cache, timer=idle).recipe.data == resolution.recipe.data
