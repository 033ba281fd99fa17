import pytest
from diffusers import FluxTransformer2DModel, __version__
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import nn

from qcompile.errors import MachineError, PlanError
from qcompile.steps.attention import Attention
from steps.test_steps import target


@pytest.fixture
def model() -> FluxTransformer2DModel:
    sizes = {"num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2}
    return FluxTransformer2DModel(
        **sizes, in_channels=4, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8)
    )


def test_every_attention_layer_gets_it_and_the_process_keeps_its_default(model: FluxTransformer2DModel) -> None:
    before = _AttentionBackendRegistry._active_backend
    step = Attention(component="model", backend="math")
    changes = step.changes(target(model))
    assert [change.module for change in changes] == [
        "transformer_blocks.0.attn",
        "single_transformer_blocks.0.attn",
        "single_transformer_blocks.1.attn",
    ]
    step.restructure(model)
    found = {layer.processor._attention_backend for layer in model.modules() if hasattr(layer, "processor")}
    assert found == {AttentionBackendName._NATIVE_MATH}
    assert _AttentionBackendRegistry._active_backend == before


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("flesh", r"steps.1.attention.backend: diffusers has no attention backend 'flesh'; did you mean 'flash'"),
        ("flash", "flash runs on CUDA devices, not on cpu"),
        ("cudnn", "cudnn runs on CUDA devices, not on cpu"),
        ("flash_hub", r"flash_hub is a kernel that has .* Use flash \(its package has to be installed\) or native"),
        ("sage_hub", r"sage_hub is a kernel that has to be downloaded from the Hub.* Use sage \(its package"),
        ("flash_4_hub", "flash_4_hub is a kernel that has to be downloaded from the Hub.* Use native."),
    ],
)
def test_what_is_not_there_is_refused_at_plan_time(model: FluxTransformer2DModel, backend: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Attention(component="model", backend=backend).changes(target(model))


def test_a_backend_that_this_diffusers_lacks_is_told_when_an_artifact_is_loaded(model: FluxTransformer2DModel) -> None:
    with pytest.raises(MachineError, match=f"diffusers {__version__} has no attention backend 'flash_9'. Install a"):
        Attention(component="model", backend="flash_9").restructure(model)


def test_a_package_that_is_not_installed(model: FluxTransformer2DModel) -> None:
    with pytest.raises(PlanError, match="sage is not available here: .*install `sageattention"):
        Attention(component="model", backend="sage").changes(target(model, device="cuda"))


def test_a_model_that_does_not_ask_is_refused() -> None:
    with pytest.raises(PlanError, match="no attention layer of model .Sequential. lets its implementation be chosen"):
        Attention(component="model", backend="native").changes(target(nn.Sequential(nn.Linear(2, 2))))
