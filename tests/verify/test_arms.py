import pytest
import torch
from torch import nn

from qcompile.errors import MachineError
from qcompile.verify.arms import compiling


class Block(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.number


def run_blocks(count: int) -> int:
    """Blocks of one class of which each needs code of its own; how many were compiled."""
    torch._dynamo.reset()
    compiled = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        compiled.append(graph)
        return graph.forward

    for number in range(count):
        block = Block(number)
        block.compile(backend=backend, dynamic=False)
        block(torch.ones(2))
    return len(compiled)


def test_no_block_of_the_control_runs_eagerly() -> None:
    many = torch._dynamo.config.recompile_limit + 4
    with compiling():
        assert run_blocks(many) == many


def test_a_control_that_is_not_compiled_through_is_refused() -> None:
    with (
        pytest.raises(MachineError, match="the control arm could not be compiled here: .*--no-control leaves"),
        compiling(),
    ):
        run_blocks(70)
