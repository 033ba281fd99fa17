import copy

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel

from qcompile.errors import PlanError
from qcompile.modules import linears, stored_bytes
from qcompile.steps.fuse_qkv import FuseQkv
from steps.test_steps import target


def flux() -> FluxTransformer2DModel:
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    ).eval().requires_grad_(False)  # fmt: skip


def flux_call() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(1, 24, 16, generator=generator),
        "encoder_hidden_states": torch.randn(1, 8, 32, generator=generator),
        "pooled_projections": torch.randn(1, 32, generator=generator),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.randn(24, 3, generator=generator),
        "txt_ids": torch.zeros(8, 3),
        "guidance": torch.tensor([3.0]),
    }


def test_output_and_size_stay_and_the_old_projections_are_gone() -> None:
    model = flux()
    fused = copy.deepcopy(model)
    size = stored_bytes(model)
    FuseQkv(component="model").restructure(fused)
    names = set(linears(fused))
    assert "transformer_blocks.0.attn.to_qkv" in names
    assert "transformer_blocks.0.attn.to_added_qkv" in names
    assert not any(name.endswith(("to_q", "to_k", "to_v", "add_q_proj")) for name in names)
    assert stored_bytes(fused) == size
    assert not any(tensor.requires_grad for tensor in fused.parameters())
    with torch.no_grad():
        torch.testing.assert_close(fused(**flux_call())[0], model(**flux_call())[0])


def test_no_weights_are_made_up_only_to_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    model = flux()
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda *_, **__: pytest.fail("random weights"))
    with pytest.raises(pytest.fail.Exception):
        torch.nn.Linear(2, 2)
    FuseQkv(component="model").restructure(model)
    assert "transformer_blocks.0.attn.to_qkv" in linears(model)


def test_changes_name_every_attention_layer_and_change_nothing() -> None:
    model = flux()
    before = set(linears(model))
    changes = FuseQkv(component="model").changes(target(model))
    assert [change.module for change in changes if change.action] == [
        "transformer_blocks.0.attn",
        "single_transformer_blocks.0.attn",
        "single_transformer_blocks.1.attn",
    ]
    assert set(linears(model)) == before


def test_fusing_twice_is_refused() -> None:
    model = flux()
    FuseQkv(component="model").restructure(model)
    with pytest.raises(PlanError, match=r"no attention layer of model can be fused \(already fused\)"):
        FuseQkv(component="model").changes(target(model))


def test_the_unet_family_keeps_the_query_of_cross_attention() -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16,
        attention_head_dim=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval().requires_grad_(False)  # fmt: skip
    call = {"sample": torch.randn(1, 4, 8, 8), "timestep": 5, "encoder_hidden_states": torch.randn(1, 6, 16)}
    with torch.no_grad():
        expected = unet(**call).sample
        FuseQkv(component="model").restructure(unet)
        torch.testing.assert_close(unet(**call).sample, expected)
    names = set(linears(unet))
    assert any(name.endswith("attn1.to_qkv") for name in names)
    assert any(name.endswith("attn2.to_kv") for name in names)
    assert any(name.endswith("attn2.to_q") for name in names)
    assert not any(name.endswith(("attn1.to_q", "attn2.to_k")) for name in names)


def test_it_runs_on_meta() -> None:
    with torch.device("meta"):
        model = FluxTransformer2DModel(num_layers=1, num_single_layers=1)
    FuseQkv(component="model").restructure(model)
    assert all(tensor.device.type == "meta" for tensor in model.parameters())


def test_layers_whose_code_never_looks_for_fused_projections_are_left_alone() -> None:
    from diffusers import LTXVideoTransformer3DModel, QwenImageTransformer2DModel

    with torch.device("meta"):
        ltx = LTXVideoTransformer3DModel(num_layers=1)
        qwen = QwenImageTransformer2DModel(num_layers=1)
    with pytest.raises(PlanError, match="no attention layer of model can be fused .*never uses fused projections"):
        FuseQkv(component="model").changes(target(ltx))
    with pytest.raises(
        PlanError, match="no attention layer of model can be fused .*diffusers does not fuse a Attention"
    ):
        FuseQkv(component="model").changes(target(qwen))
