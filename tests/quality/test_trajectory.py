import pytest
import torch
from torch import nn

from qcompile.quality.trajectory import Trajectory, recorded


class Denoiser(nn.Module):
    """Adds a weighted condition, and writes into its input, as some models do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, sample: torch.Tensor, condition: torch.Tensor, scale: float = 2.0) -> tuple[torch.Tensor]:
        result = sample * scale + condition * self.weight
        sample.zero_()
        return (result,)


def three_steps(denoiser: nn.Module) -> Trajectory:
    condition = torch.ones(4)
    with recorded(denoiser) as trajectory, torch.no_grad():
        for step in range(3):
            denoiser(torch.full((4,), float(step)), condition=condition)
    return trajectory


def test_calls_are_kept_as_they_were_before() -> None:
    trajectory = three_steps(Denoiser())
    assert [call["sample"][0].item() for call in trajectory.calls] == [0.0, 1.0, 2.0]
    assert [output[0][0].item() for output in trajectory.outputs] == [1.0, 3.0, 5.0]
    assert trajectory.calls[0]["scale"] == 2.0


def test_what_is_passed_again_is_kept_once() -> None:
    trajectory = three_steps(Denoiser())
    assert trajectory.calls[0]["condition"] is trajectory.calls[2]["condition"]
    changed = Denoiser()
    condition = torch.ones(4)
    with recorded(changed) as trajectory, torch.no_grad():
        for _ in range(2):
            changed(torch.ones(4), condition)
            condition.add_(1)
    assert [call["condition"][0].item() for call in trajectory.calls] == [1.0, 2.0]


def test_hooks_are_gone_afterwards() -> None:
    denoiser = Denoiser()
    with pytest.raises(ZeroDivisionError), recorded(denoiser):
        raise ZeroDivisionError
    assert not denoiser._forward_hooks
    assert not denoiser._forward_pre_hooks


def test_errors_are_relative_to_the_original_at_every_step() -> None:
    trajectory, other = three_steps(Denoiser()), Denoiser()
    assert trajectory.errors(Denoiser()) == (0.0, 0.0, 0.0)
    other.weight.fill_(1.5)
    # The output is 2 s + 1, and half of the condition is added.
    assert trajectory.errors(other) == pytest.approx((0.5, 0.5 / 3, 0.1))
    assert trajectory.errors(other, only=(2,)) == pytest.approx((0.1,))


@pytest.mark.parametrize(("count", "expected"), [(2, (0, 9)), (4, (0, 3, 6, 9)), (1, (0,)), (99, tuple(range(10)))])
def test_spread(count: int, expected: tuple[int, ...]) -> None:
    trajectory = Trajectory([{}] * 10, [None] * 10)
    assert trajectory.spread(count) == expected
