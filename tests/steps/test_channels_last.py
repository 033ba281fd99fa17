import copy

import torch
from torch import nn

from qcompile.steps.channels_last import ChannelsLast
from steps.test_steps import target


def test_values_stay_and_only_the_layout_of_convolutions_changes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv1d(8, 8, 1), nn.Linear(4, 4))
    before = copy.deepcopy(model.state_dict())
    step = ChannelsLast(component="vae")
    (change,) = step.changes(target(model, component="vae"))
    assert (change.module, change.features, change.bytes_before) == ("0", (4, 8), 4 * 8 * 9 * 4)
    assert model[0].weight.is_contiguous()
    step.restructure(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not model[0].weight.is_contiguous()
    assert model[1].weight.is_contiguous()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_it_runs_on_meta() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(4, 8, 3))
    ChannelsLast(component="vae").restructure(model)
    assert model[0].weight.stride() == (36, 1, 12, 4)
