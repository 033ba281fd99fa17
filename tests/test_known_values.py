"""Values of masks and ids are followed on meta; what depends on weights stays unknown."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from qcompile.errors import PlanError
from qcompile.known_values import MAX_ELEMENTS, KnownValues

META = torch.device("meta")


def mask() -> torch.Tensor:
    """[2, 4]: three tokens of the first text, two of the second."""
    return torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).to(META)


READ: list[tuple[Callable[[], Any], Any]] = [
    (lambda: mask().sum(dim=1).tolist(), [3, 2]),
    (lambda: mask().bool().all().item(), False),
    (lambda: bool((mask() >= 0).all()), True),
    (lambda: int(mask().sum()), 5),
    (lambda: mask().cpu().tolist()[1], [1, 1, 0, 0]),
    (lambda: mask().to("cpu")[0].tolist(), [1, 1, 1, 0]),
    (lambda: mask()[:, :3].repeat(1, 2).view(2, 6).sum().item(), 10),
    (lambda: (torch.arange(4, device="meta") < 2).tolist(), [True, True, False, False]),
    (lambda: torch.equal(mask(), mask()), True),
    (lambda: mask().nonzero().shape, (5, 2)),
    (lambda: torch.cat([mask(), torch.zeros_like(mask())]).sum().item(), 5),
]


@pytest.mark.parametrize(("read", "value"), READ)
def test_what_comes_from_tokens_can_be_read(read: Callable[[], Any], value: Any) -> None:
    with KnownValues():
        assert read() == value
    # Without, torch has no value to give: the test would notice if it had.
    with pytest.raises((RuntimeError, NotImplementedError)):
        read()


def test_results_are_on_meta() -> None:
    with KnownValues():
        found = mask().nonzero()
        assert found.device == META
        assert mask().cpu().device.type == "cpu"


def test_a_known_mask_gives_what_it_selects_its_size() -> None:
    hidden = torch.empty(2, 4, 8, device="meta")
    with KnownValues():
        rows = hidden[mask().bool()]
        assert rows.shape == (5, 8)
        parts = torch.split(rows, mask().sum(dim=1).tolist())
        assert [part.shape[0] for part in parts] == [3, 2]
        hidden[mask().bool()] = 0.0


@pytest.mark.parametrize(
    "change",
    [
        lambda known: known.add_(1),
        lambda known: known.__setitem__((slice(None), 0), 2),
        lambda known: known.copy_(torch.full((2, 4), 2, device="meta")),
    ],
)
def test_changes_in_place_are_followed(change: Callable[[torch.Tensor], Any]) -> None:
    with KnownValues():
        known = mask()
        view = known[:, :1]
        change(known)
        assert view.tolist() == [[2], [2]]


def test_values_that_are_overwritten_by_unknown_ones_are_forgotten() -> None:
    with KnownValues():
        known = mask().float()
        view = known[0]
        known.copy_(torch.empty(2, 4, device="meta"))
        with pytest.raises(PlanError, match="depend on weights"):
            view.tolist()


def test_the_cpu_tensor_that_a_value_came_from_is_its_owners() -> None:
    with KnownValues():
        source = torch.ones(3)
        known = source.to(META)
        known.mul_(2)
        source.zero_()
        assert source.tolist() == [0, 0, 0]
        assert known.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "unknown",
    [
        lambda: torch.nn.functional.embedding(mask(), torch.empty(2, 8, device="meta")),
        lambda: torch.randn(3, device="meta"),
        lambda: torch.empty(3, device="meta"),
        lambda: torch.zeros(MAX_ELEMENTS + 1, device="meta"),
    ],
)
def test_what_depends_on_weights_or_chance_can_not_be_read(unknown: Callable[[], torch.Tensor]) -> None:
    with KnownValues(), pytest.raises(PlanError, match="reads values in tolist before the denoiser's first call"):
        unknown().tolist()


def test_errors_that_have_another_cause_pass() -> None:
    with KnownValues(), pytest.raises(RuntimeError, match="reduction dim") as found:
        torch.empty(2, 3, device="meta") @ torch.empty(2, 3, device="meta")
    assert not isinstance(found.value, PlanError)
