import torch

from qcompile.aot.build import _most_alike
from qcompile.aot.callspec import spec_of

ROWS, COLUMNS = torch.zeros(2, 3), torch.zeros(3, 2).t()


def test_the_layout_that_most_layers_have_is_compiled_for() -> None:
    calls = {"0": {"x": COLUMNS}, "1": {"x": ROWS}, "2": {"x": ROWS}, "3": {"x": ROWS}}
    layers = {name: spec_of(call) for name, call in calls.items()}
    assert _most_alike(layers, {name: calls[name] for name in ("0", "2", "3")}) == "3"
    assert _most_alike(layers, {"0": calls["0"]}) == "0"


def test_of_two_layouts_the_later_is_taken_and_of_equals_the_last() -> None:
    calls = {"0": {"x": COLUMNS}, "1": {"x": ROWS}}
    layers = {name: spec_of(call) for name, call in calls.items()}
    assert _most_alike(layers, calls) == "1"
