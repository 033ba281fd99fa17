"""What every step of the table owes: its place in the schema, and changes that change nothing."""

import pytest

from qcompile.errors import PlanError
from qcompile.steps import STEPS, Phase, Step, Target


def test_names_are_unique_and_phases_are_set() -> None:
    kinds = [step.kind for step in STEPS]
    assert len(set(kinds)) == len(kinds)
    assert all(isinstance(step.phase, Phase) for step in STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_every_option_is_described(step: type[Step]) -> None:
    assert step.__doc__
    for name, field in step.model_fields.items():
        assert field.description, f"{step.kind}.{name}"


def target(
    module, earlier=(), component: str = "model", device: str = "cpu", compiled: bool = False, rows=None, pipeline=None
) -> Target:
    """A component as a step sees it."""
    return Target(
        index=1,
        component=component,
        module=module,
        is_denoiser=component == "model",
        device_type=device,
        compiled=compiled,
        earlier=tuple(earlier),
        rows=lambda: rows or {},
        pipeline=pipeline,
    )


def test_what_a_step_can_not_do_is_refused_with_its_place() -> None:
    from torch import nn

    from qcompile.steps.channels_last import ChannelsLast
    from qcompile.steps.compile import Compile
    from qcompile.steps.fuse_qkv import FuseQkv

    plain = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(PlanError, match="steps.1.fuse_qkv: Sequential has no fuse_qkv_projections"):
        FuseQkv(component="model").changes(target(plain))
    with pytest.raises(PlanError, match="steps.1.channels_last: model .Sequential. has no two-dimensional convolution"):
        ChannelsLast(component="model").changes(target(plain))
    with pytest.raises(PlanError, match="has no repeated blocks to compile one by one; use scope: full"):
        Compile(component="model", mode="aot").changes(target(plain))
    with pytest.raises(PlanError, match="'vae' is not called at every step"):
        Compile(component="vae", mode="aot").changes(target(plain, component="vae"))
    assert Compile(component="vae", mode="jit", scope="full").changes(target(plain, component="vae"))
    (whole,) = Compile(component="model", mode="aot", scope="full").changes(target(plain))
    assert (whole.module, whole.action) == ("", "aot Sequential")
    with pytest.raises(PlanError, match="model is compiled by an earlier step already"):
        Compile(component="model", mode="aot", scope="full").changes(target(plain, [whole]))
