"""Where a denoiser's weights are, call by call. What memory that saves is in the stages' peaks of recipes/measured."""

from typing import Any

import pytest
import torch
from torch import nn

from qcompile import runner
from qcompile.aside import aside, away, compiles_later
from qcompile.subject import Subject

HERE = torch.device("cpu", 0)
"""Stands for a GPU: the only device of this machine, by a name that tells it from `cpu`."""


class Logged(nn.Linear):
    """Writes down where it is sent, and when it runs."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__(2, 2)
        self.name, self.log = name, log

    def to(self, *arguments: Any, **options: Any) -> Any:
        self.log.append(f"{self.name} to {arguments[0]}")
        return super().to(*arguments, **options)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.log.append(f"{self.name} runs")
        return super().forward(rows)


def test_the_weights_leave_when_the_other_runs_and_come_back_when_they_are_needed() -> None:
    log: list[str] = []
    denoiser, decoder, rows = Logged("denoiser", log), Logged("decoder", log), torch.ones(1, 2)
    with aside(denoiser, decoder, HERE):
        assert log == ["denoiser to cpu:0"]  # a pipeline asks for its device first
        denoiser(rows)
        decoder(rows)
        assert log[1:] == ["denoiser to cpu:0", "denoiser runs", "denoiser to cpu", "decoder runs"]
        denoiser(rows)
        assert log[5:] == ["denoiser to cpu:0", "denoiser runs"]
        decoder(rows)
    # Nothing is brought back for nobody; the next call of the pipeline does it before anybody asks for a device.
    assert log[7:] == ["denoiser to cpu", "decoder runs"]
    with aside(denoiser, decoder, HERE):
        assert log[9:] == ["denoiser to cpu:0"]


def test_nothing_moves_any_more_afterwards() -> None:
    log: list[str] = []
    denoiser, decoder, rows = Logged("denoiser", log), Logged("decoder", log), torch.ones(1, 2)
    try:
        with aside(denoiser, decoder, HERE):
            raise RuntimeError
    except RuntimeError:
        log.clear()
    denoiser(rows)
    decoder(rows)
    assert log == ["denoiser runs", "decoder runs"]


def test_away_during_the_body_and_back_where_that_went_well() -> None:
    log: list[str] = []
    denoiser = Logged("denoiser", log)
    with away(denoiser, HERE):
        assert log == ["denoiser to cpu"]
    assert log[1:] == ["denoiser to cpu:0"]
    with pytest.raises(RuntimeError), away(denoiser, HERE):
        raise RuntimeError
    assert log[2:] == ["denoiser to cpu"]


def test_in_apply_a_denoiser_leaves_in_its_final_form_unless_torch_compile_holds_on_to_it() -> None:
    log: list[str] = []
    denoiser = Logged("denoiser", log)
    subject = Subject({"transformer": denoiser}, "transformer", None, {}, {})
    subject.settle = lambda: log.append("all on the GPU")  # type: ignore[method-assign]
    with runner._alone(subject, HERE):
        assert log == ["all on the GPU", "denoiser to cpu"]
    assert log[2:] == ["denoiser to cpu:0"]
    denoiser.compile()
    with runner._alone(subject, HERE):
        assert len(log) == 3


def test_what_torch_compile_will_run_is_known() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert not compiles_later(model)
    model[1].compile()
    assert compiles_later(model)
