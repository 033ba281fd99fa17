import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from aot.tiny import make_model
from conftest import DEMO, demo_data, eager_steps

import qcompile
from qcompile import recipe as recipes
from qcompile.change import Change
from qcompile.errors import ModelError, PlanError
from qcompile.planner import plan
from qcompile.recipe import Recipe
from qcompile.source import find_folder

MakeRecipe = Callable[..., Recipe]


def quantized(changes: tuple[Change, ...]) -> list[Change]:
    return [change for change in changes if change.kind == "quantize" and change.action]


def test_the_demo_plan() -> None:
    found = plan(DEMO, device="cpu")
    assert found.obstacles == ()
    assert found.shapes == ("128x128_b1",)
    by_name = {change.module: change for change in quantized(found.changes)}
    assert by_name["transformer_blocks.0.attn.to_qkv"].rows == (256,)
    assert by_name["transformer_blocks.1.ff_context.net.2"].rows == (32,)
    assert by_name["single_transformer_blocks.2.proj_out"].rows == (288,)
    assert len(by_name) == 2 * 8 + 3 * 3
    left = {change.module: change.reason for change in found.changes if change.reason}
    assert left["transformer_blocks.0.norm1.linear"] == "excluded by **.norm*.**"
    assert left["x_embedder"] == "not included"
    assert found.bytes_after < 0.75 * found.bytes_before


def test_predicted_bytes_are_within_two_percent_of_what_apply_writes(eager_artifact: Path) -> None:
    written = sum(path.stat().st_size for path in eager_artifact.rglob("*.safetensors"))
    assert plan(DEMO).bytes_after == pytest.approx(written, rel=0.02)
    original = sum(path.stat().st_size for path in find_folder("builtin:flux-mini").rglob("*.safetensors"))
    assert plan(DEMO).bytes_before == pytest.approx(original, rel=0.02)


def test_no_weights_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    shutil.copytree(find_folder("builtin:flux-mini"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    assert plan(recipes.read(DEMO, model=str(folder))).changes == plan(DEMO).changes


def test_rows_follow_every_shape_and_batch(make_recipe: MakeRecipe) -> None:
    shapes = [{"height": 128, "width": 128, "batch": 3}, {"height": 96, "width": 192}]
    found = plan(make_recipe(shapes=shapes))
    assert found.shapes == ("128x128_b3", "96x192_b1")
    by_name = {change.module: change for change in found.changes if change.kind == "quantize"}
    assert by_name["transformer_blocks.0.attn.to_qkv"].rows == (768, 12 * 24)
    assert by_name["transformer_blocks.0.norm1.linear"].rows == (3, 1)


def test_without_shapes_the_pipeline_takes_its_default(make_recipe: MakeRecipe) -> None:
    found = plan(make_recipe(shapes=[]))
    assert found.shapes == ("default_b1",)
    assert {change.rows for change in quantized(found.changes) if change.module.endswith("0.attn.to_qkv")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [{"channels_last": {"component": "unet"}}]},
         r"steps.0.channels_last.component: the model has no component 'unet'; .*transformer, vae"),
        ({"call": {"prompt": "a", "num_inference_step": 3}},
         r"call.num_inference_step: FluxPipeline takes no 'num_inference_step'; did you mean 'num_inference_steps'"),
        ({"call": {"prompt": "a", "height": 3}}, "call.height: sizes are declared under shapes"),
        ({"steps": [{"quantize": {"component": "vae", "scheme": "int8_dynamic",
                                  "layers": {"where": {"min_rows": 17}}}}]}, "min_rows: the rows that .* sees are not known"),
        ({"steps": [{"compile": {"component": "text_encoder", "mode": "aot"}}]}, "not called at every step"),
        ({"steps": [{"quantize": {"component": "transformer", "scheme": "int8_dynamic",
                                  "layers": {"include": ["blocks.**"]}}}]}, "layers.include: 'blocks.[*]{2}' matches no linear"),
    ],
)  # fmt: skip
def test_recipes_that_do_not_fit(make_recipe: MakeRecipe, change: dict, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(make_recipe(**change))


def test_overlapping_steps(make_recipe: MakeRecipe) -> None:
    def step(scheme: str, *include: str) -> dict:
        return {"quantize": {"component": "transformer", "scheme": scheme, "layers": {"include": list(include)}}}

    steps = [step("int8_weight_only", "**.ff.**"), step("float8_weight_only", "**.attn.**")]
    found = plan(make_recipe(steps=steps))
    schemes = {change.module: change.action for change in quantized(found.changes)}
    assert schemes["transformer_blocks.0.ff.net.2"] == "int8_weight_only"
    assert schemes["transformer_blocks.0.attn.to_q"] == "float8_weight_only"
    with pytest.raises(PlanError, match="is quantized by steps.0 already"):
        plan(make_recipe(steps=[steps[0], step("float8_weight_only", "**")]))


def test_what_this_machine_can_not_do_is_an_obstacle_not_an_error(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qcompile import planner
    from qcompile.schemes import SCHEMES

    # There is no GPU here; the table is asked what it would say of one.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    steps = [{"quantize": {"component": "transformer", "scheme": "float8_weight_only"}}]
    found = planner._obstacles(make_recipe(steps=steps), torch.device("cuda", 0))
    assert found == (f"steps.0.quantize.scheme: {SCHEMES['float8_weight_only'].why_not_device('cuda', (8, 0))}",)


def test_a_package_that_is_missing_is_an_obstacle(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from qcompile import planner
    from qcompile.schemes import SCHEMES

    # Whether mslk is installed or not, this one is not.
    odd = dataclasses.replace(SCHEMES["float8_dynamic_int4"], devices=("cpu",), packages=("torchao", "no_such_package"))
    monkeypatch.setitem(SCHEMES, "float8_dynamic_int4", odd)
    steps = [{"quantize": {"component": "transformer", "scheme": "float8_dynamic_int4"}}]
    found = planner._obstacles(make_recipe(steps=steps), torch.device("cpu"))
    assert found == (
        "steps.0.quantize.scheme: float8_dynamic_int4 needs the package no_such_package, which is not installed: pip "
        "install no_such_package",
    )


def test_a_model_that_could_not_be_rebuilt_at_load_is_refused(make_recipe: MakeRecipe) -> None:
    with pytest.raises(ModelError, match="Model is neither a diffusers nor a transformers model"):
        plan(make_recipe(steps=eager_steps()[-1:]), model=make_model(), example_inputs=[{}])


def flux_dev(folder: Path) -> Path:
    """FLUX.1-dev's configuration at full size, without weights (numbers of its published config.json files)."""
    shutil.copytree(find_folder("builtin:flux-mini"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    sizes = {
        "transformer": {"in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
                        "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768,
                        "axes_dims_rope": [16, 56, 56]},
        "text_encoder_2": {"d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 24, "vocab_size": 32128},
        "text_encoder": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                         "vocab_size": 49408, "projection_dim": 768, "max_position_embeddings": 77},
        "vae": {"block_out_channels": [128, 256, 512, 512], "latent_channels": 16, "layers_per_block": 2, "norm_num_groups": 32,
                "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4},
    }  # fmt: skip
    for name, changed in sizes.items():
        path = folder / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return folder


@pytest.mark.slow
def test_flux_dev_at_full_size(tmp_path: Path) -> None:
    shapes = [{"height": 1024, "width": 1024}, {"height": 768, "width": 1360, "batch": 2}]
    data = demo_data() | {"shapes": shapes, "call": demo_data()["call"] | {"max_sequence_length": 512}}
    recipe = recipes.parse(yaml.safe_dump(data), model=str(flux_dev(tmp_path / "flux")))
    found = qcompile.plan(recipe, device="cpu")
    sizes = {component.name: component for component in found.components}
    assert sizes["transformer"].before == 2 * 11_901_408_320
    chosen = quantized(found.changes)
    assert len(chosen) == 19 * 8 + 38 * 3
    by_name = {change.module: change for change in chosen}
    assert by_name["transformer_blocks.18.attn.to_qkv"].rows == (4096, 2 * 4080)
    assert by_name["single_transformer_blocks.37.proj_out"].rows == (4608, 2 * (4080 + 512))
    assert by_name["single_transformer_blocks.37.proj_out"].features == (15360, 3072)
    assert 15.1e9 < sizes["transformer"].after < 15.3e9


def test_rows_are_unknown_where_a_model_asks_for_values(tmp_path: Path) -> None:
    """HiDream chooses experts by value, which meta tensors do not have: the plan says so, and apply decides alike."""
    from breadth.case import arguments, build
    from breadth.catalogue import CASES
    from breadth.walk import recipe_for

    name = "HiDreamImageTransformer2DModel"
    model = build(name, CASES[name], tmp_path / "model")
    inputs = [arguments(CASES[name])]
    planned = plan(recipe_for(CASES[name], compiled=False), model=model, example_inputs=inputs)
    assert "Meta tensors" in str(planned.rows_unknown)
    assert {change.rows for change in planned.changes} == {()}
    artifact = qcompile.apply(
        recipe_for(CASES[name], compiled=False), model=model, example_inputs=inputs, out=tmp_path / "artifact"
    )
    assert artifact.manifest.changes == planned.changes
