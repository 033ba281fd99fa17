"""Autoquant on a GPU: real kernels, real latencies."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from conftest import demo_data
from torch import nn

import qcompile
from qcompile import recipe as recipes
from qcompile.artifact.read import read_artifact
from qcompile.autoquant import resolve
from qcompile.autoquant.candidates import in_scheme
from qcompile.autoquant.measure import time_compiled
from qcompile.errors import PlanError
from qcompile.recipe import Recipe


def make_recipe(**shape: int) -> Recipe:
    """The demo in float32, whose plain matrix products are slow enough to be beaten, over two blocks."""
    data = copy.deepcopy(demo_data())
    data["model"]["dtype"] = "float32"
    data["shapes"] = [{"height": 128, "width": 128} | shape]
    data["steps"][2] = {
        "quantize": {
            "component": "transformer",
            "scheme": "autoquant",
            "layers": {"include": ["single_transformer_blocks.**"], "exclude": ["**.norm*.**"]},
            "autoquant": {"candidates": ["int8_dynamic", "int8_weight_only"], "min_sqnr_db": 20, "budget_s": 300},
        }
    }
    return recipes.parse(yaml.safe_dump(data))


def refuse(*_: object) -> dict:
    raise AssertionError("an explicit recipe measures nothing")


def test_resolves_applies_and_reproduces_without_measuring(tmp_path: Path) -> None:
    resolution = resolve(make_recipe(batch=32), device="cuda", cache=tmp_path / "autoquant.json")
    print(resolution.to_yaml())
    explicit = recipes.parse(resolution.to_yaml())
    assert explicit.data == resolution.recipe.data
    assert resolve(explicit, timer=refuse).recipe is explicit
    for row in resolution.measurements:
        if row.num_taken and row.scheme != "none":
            none = next(
                other for other in resolution.measurements if (other.shape, other.scheme) == (row.shape, "none")
            )
            assert row.timing is not None
            assert none.timing is not None
            assert row.timing.median_us < none.timing.median_us
            assert row.sqnr_db is not None
            assert row.sqnr_db >= 20
    chosen = {
        name
        for step in resolution.recipe.data["steps"]
        if "quantize" in step
        for name in step["quantize"]["layers"]["include"]
    }
    artifact = qcompile.apply(explicit, out=tmp_path / "made")
    changed = {change.module for change in artifact.manifest.changes if change.kind == "quantize" and change.action}
    assert changed == chosen
    assert read_artifact(tmp_path / "made").manifest.environment.device == "cuda"


def test_the_cache_answers_the_second_time(tmp_path: Path) -> None:
    cache = tmp_path / "autoquant.json"
    recipe = make_recipe()
    outcomes = []
    for timer in (time_compiled, refuse):
        try:
            outcomes.append(resolve(recipe, device="cuda", cache=cache, timer=timer).recipe.data)
        except PlanError as error:  # small layers gain nothing on a large GPU, and that is a result too
            assert "no candidate is worth it" in str(error)
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("scheme", ["none", "int8_dynamic"])
def test_latencies_are_those_of_the_kernels(scheme: str) -> None:
    """CUDA graphs know no launch times either, so both should agree on a layer that takes long."""
    torch.manual_seed(0)
    layer = nn.Linear(3072, 12288, device="cuda", dtype=torch.bfloat16).requires_grad_(False)
    activation = torch.randn(1, 4096, 3072, device="cuda", dtype=torch.bfloat16)
    found = time_compiled(layer, activation, ["none", "int8_dynamic"], lambda: False)
    timing = found[scheme]
    assert not isinstance(timing, str), timing
    with torch.no_grad():
        run = torch.compile(in_scheme(scheme, layer, activation), fullgraph=True)
        for _ in range(3):
            run(activation)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(10):
                run(activation)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        graph.replay()
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
    assert timing.median_us == pytest.approx(start.elapsed_time(end) * 100, rel=0.3)
