"""Graph breaks and recompilations that were planted. Only torch's tracer runs, no compiler."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.backends.debugging import ExplainWithBackend
from torch._dynamo.utils import counters

from profiler import planted
from profiler.planted import Branching, Looping, Outside, Pair, Refusing, Whole, make
from qcompile.errors import PlanError
from qcompile.profiler.breaks import Tracing, trace


def rows(*counts: int) -> dict[str, torch.Tensor]:
    return {f"{count}_rows": torch.ones(count, 8) for count in counts}


def traced(module: nn.Module, calls: dict[str, torch.Tensor], dynamic: bool | None = False) -> Tracing:
    runs: dict[str, Callable[[], object]] = {label: lambda call=call: module(call) for label, call in calls.items()}
    return trace({"": module}, runs, dynamic)


def place_of(comment: str) -> str:
    path = Path(planted.__file__)
    (number,) = [
        number for number, line in enumerate(path.read_text().splitlines(), start=1) if line.endswith(f"# {comment}")
    ]
    return f"{path}:{number}"


def test_breaks_have_place_reason_and_advice() -> None:
    found = traced(make(Branching), rows(4))
    assert [item.place for item in found.breaks] == [place_of("a branch"), place_of("a value")]
    assert [item.function for item in found.breaks] == ["forward", "forward"]
    branch, value = found.breaks
    assert branch.reason == "branch on the value of a tensor"
    assert "torch.where" in branch.advice
    assert branch.line.startswith("if x.sum() > 0:")
    assert "item" in value.reason
    assert "keep the value in a tensor" in value.advice
    assert found.num_graphs == 3


def test_a_function_that_torch_gives_up() -> None:
    """It makes no graph at all, which must not look like one without breaks."""
    found = traced(make(Looping), rows(4))
    (item,) = found.breaks
    assert found.num_graphs == 0
    assert (item.place, item.function) == (place_of("inside of a loop"), "forward")
    assert item.reason.startswith("the whole function runs eagerly: ")
    assert "print" in item.line
    assert "take the output out" in item.advice


def test_a_break_before_the_first_operator() -> None:
    (item,) = traced(make(Outside), rows(4)).breaks
    assert item.place == f"{planted.__file__}:{Outside.forward.__code__.co_firstlineno}"
    assert "disable" in item.reason
    assert "kept out of graphs on purpose" in item.advice


def test_more_shapes_than_torch_compiles_for() -> None:
    limit = torch._dynamo.config.recompile_limit
    found = traced(make(Whole), rows(*range(2, limit + 4)))
    assert len(found.recompilations) >= limit - 1
    assert any("declare fewer shapes" in item.advice and "limit" in item.reason for item in found.breaks)


def test_whole_graphs() -> None:
    found = traced(make(Whole), rows(4))
    assert (found.breaks, found.recompilations, found.num_graphs, found.num_compilations) == ((), (), 1, 1)


def test_a_shape_too_many() -> None:
    (found,) = traced(make(Whole), rows(4, 6)).recompilations
    source = inspect.getsourcefile(Whole)
    assert found.place == f"{source}:{Whole.forward.__code__.co_firstlineno}"
    assert (found.function, found.shape) == ("Whole.forward", "6_rows")
    assert "size mismatch at index 0. expected 4, actual 6" in found.guard
    assert "dynamic: true" in found.advice


def test_one_code_for_all_sizes() -> None:
    assert traced(make(Whole), rows(4, 6, 8), dynamic=True).recompilations == ()


def test_another_layout() -> None:
    calls = {"whole": torch.ones(4, 8), "slice": torch.ones(4, 16)[:, :8]}
    (found,) = traced(make(Whole), calls).recompilations
    assert "stride mismatch" in found.guard
    assert "contiguous" in found.advice


def test_layers_that_differ_in_a_plain_value() -> None:
    pair = make(Pair)
    found = trace({"first": pair.first, "second": pair.second}, {"one": lambda: pair(torch.ones(2, 8))}, False)
    (item,) = found.recompilations
    assert "gain" in item.guard
    assert "pass it as a tensor" in item.advice


def test_the_second_time_finds_the_same() -> None:
    module = make(Branching)
    first, second = traced(module, rows(4, 6)), traced(module, rows(4, 6))
    assert first == second
    assert len(first.recompilations) > 0
    # Torch keeps 64 records of compilations: also once it drops old ones for new ones.
    for _ in range(12):
        assert traced(module, rows(4, 6)) == first


def test_the_module_is_left_as_it_was() -> None:
    module = make(Whole)
    call, config = torch.ones(4, 8), dict(torch._dynamo.config.get_config_copy())
    before = module(call)
    traced(module, rows(4, 6))
    assert module._compiled_call_impl is None
    compilations = counters["frames"]["total"]
    assert torch.equal(module(call), before)
    assert counters["frames"]["total"] == compilations
    assert torch._dynamo.config.get_config_copy() == config


def test_also_when_it_raises() -> None:
    module = make(Refusing)
    with pytest.raises(ZeroDivisionError):
        traced(module, rows(4))
    assert module._compiled_call_impl is None


def test_what_torch_compile_fails_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(ExplainWithBackend, "__call__", fail)  # no module of ours brings such an error about
    module = make(Whole)
    with pytest.raises(PlanError, match=r"torch.compile fails on Whole for 4_rows: .*no such operator.*--eager"):
        traced(module, rows(4))
    assert module._compiled_call_impl is None
