import pytest
import torch
from torch import nn

from qcompile.streaming import Streaming

pytestmark = pytest.mark.gpu
WIDTH, COUNT = 2048, 12
BLOCK_BYTES = 2 * WIDTH * WIDTH * 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + self.down(self.up(rows).relu())


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(COUNT)])

    def forward(self, rows: torch.Tensor, fails: bool = False) -> torch.Tensor:
        rows = self.embed(rows)
        for index, block in enumerate(self.blocks):
            rows = block(rows if not (fails and index == 5) else rows[:, :1])
        return rows


def test_it_computes_the_same_with_two_blocks_on_the_gpu() -> None:
    torch.manual_seed(0)
    model, rows, device = Model().eval(), torch.randn(64, WIDTH, device="cuda"), torch.device("cuda")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        streaming = Streaming(model, device)
        streamed = [model(rows) for _ in range(3)]
        # The embedding and the first block, which holds no first parameter here, two blocks, and what they compute with.
        assert torch.cuda.max_memory_allocated() - before < 3.5 * BLOCK_BYTES + 2**24
        with pytest.raises(RuntimeError):
            model(rows, fails=True)
        assert next(model.blocks[5].parameters()).device.type == "cpu"  # put back although it failed
        streaming.settle(model.blocks[2].up)  # what a step moves stays
        streaming.settle(model.blocks[7])
        changed = model(rows)
        assert model.blocks[2].up.weight.device.type == "cuda"
        assert not model.blocks[7]._forward_pre_hooks
        assert model.blocks[7].down.weight.device.type == "cuda"
        assert model.blocks[2].down.weight.device.type == "cpu"
        streaming.close()
        resident = model(rows)
    assert all(parameter.device.type == "cuda" for parameter in model.parameters())
    assert all(torch.equal(tensor.cpu(), state[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(resident, other) for other in (*streamed, changed))


def test_a_model_without_blocks_is_moved() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    Streaming(model, torch.device("cuda")).close()
    assert model[0].weight.device.type == "cuda"
