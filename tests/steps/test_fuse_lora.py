"""LoRA files as users have them: written by diffusers from peft adapters on the embedded model."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import qcompile
from qcompile.errors import ModelError, PlanError, RecipeError
from qcompile.lora import traces_of_peft
from qcompile.recipe import Recipe
from qcompile.source import find_folder

RANK, SCALE = 4, 0.5


def load() -> Any:
    return FluxPipeline.from_pretrained(find_folder("builtin:flux-mini"), dtype=torch.bfloat16)


def adapted(model: torch.nn.Module, targets: list[str], seed: int) -> dict[str, torch.Tensor]:
    """State of a new adapter with random values in both of its matrices."""
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, init_lora_weights="gaussian"))
    generator = torch.Generator().manual_seed(seed)
    state = get_peft_model_state_dict(model, adapter_name="default")
    return {name: torch.randn(tensor.shape, generator=generator) * 0.2 for name, tensor in state.items()}


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on attention of the transformer and of the first text encoder."""
    folder = tmp_path_factory.mktemp("lora")
    pipe = load()
    FluxPipeline.save_lora_weights(
        folder,
        transformer_lora_layers=adapted(pipe.transformer, ["to_q", "to_v"], seed=1),
        text_encoder_lora_layers=adapted(pipe.text_encoder, ["q_proj"], seed=2),
    )
    return folder / "pytorch_lora_weights.safetensors"


@pytest.fixture
def recipe_of(make_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def make(*loras: Path | str, scale: float = SCALE, more: list[dict] | None = None) -> Recipe:
        steps: list[dict] = [{"fuse_lora": {"path": str(path), "scale": scale}} for path in loras]
        return make_recipe(steps=steps + (more or []), verify={})

    return make


def expected_weight(path: Path, component: str, layer: str, scale: float = SCALE) -> torch.Tensor:
    """W + scale · B A, with the pair that the file holds for a layer."""
    state = load_file(path)
    pair = {key.rsplit(".", 2)[-2]: tensor for key, tensor in state.items() if key.startswith(f"{component}.{layer}.")}
    down, up = (next(pair[name] for name in names if name in pair) for names in (("lora_A", "down"), ("lora_B", "up")))
    weight = getattr(load(), component).get_submodule(layer).weight
    return weight.float() + scale * (up.float() @ down.float())


def test_weights_are_the_base_plus_the_product(lora: Path, recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    artifact = qcompile.apply(recipe_of(lora), out=tmp_path / "fused")
    pipe = qcompile.load(tmp_path / "fused")
    for component, layer in (
        ("transformer", "transformer_blocks.1.attn.to_v"),
        ("transformer", "single_transformer_blocks.2.attn.to_q"),
        ("text_encoder", next(c.module for c in artifact.manifest.changes if c.component == "text_encoder")),
    ):
        found = getattr(pipe, component).get_submodule(layer).weight
        assert type(getattr(pipe, component).get_submodule(layer)) is torch.nn.Linear
        error = (found.float() - expected_weight(lora, component, layer)).norm() / found.float().norm()
        assert error < 0.005, layer  # bfloat16 rounds to 8 bits
        assert not torch.equal(found, getattr(load(), component).get_submodule(layer).weight)
    untouched = pipe.transformer.transformer_blocks[0].attn.to_k.weight
    assert torch.equal(untouched, load().transformer.transformer_blocks[0].attn.to_k.weight)
    for component in (pipe.transformer, pipe.text_encoder):
        assert traces_of_peft(component) == []
    stored = {name: record.stored for name, record in artifact.manifest.components.items()}
    assert (stored["transformer"], stored["text_encoder"], stored["text_encoder_2"]) == (
        "qcompile",
        "qcompile",
        "diffusers",
    )


def test_several_and_then_quantized(lora: Path, recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    more = [
        {"fuse_qkv": {"component": "transformer"}},
        {"quantize": {"component": "transformer", "scheme": "int8_weight_only"}},
    ]
    twice = recipe_of(lora, lora, more=more)
    qcompile.apply(twice, out=tmp_path / "twice")
    once = recipe_of(lora, scale=2 * SCALE, more=more)
    qcompile.apply(once, out=tmp_path / "once")
    weights = [
        qcompile.load(tmp_path / name).transformer.transformer_blocks[0].attn.to_qkv.weight.dequantize().float()
        for name in ("twice", "once")
    ]
    assert (weights[0] - weights[1]).norm() / weights[1].norm() < 0.02


def test_the_plan_names_every_layer(lora: Path, recipe_of: Callable[..., Recipe]) -> None:
    plan = qcompile.plan(recipe_of(lora))
    layers = {(change.component, change.module) for change in plan.changes}
    assert ("transformer", "transformer_blocks.0.attn.to_q") in layers
    assert {change.action for change in plan.changes} == {f"fuse rank {RANK}, scale {SCALE:g}"}
    assert len(layers) == len(plan.changes) == len(load_file(lora)) // 2
    assert plan.bytes_before == plan.bytes_after


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (lambda key: key.replace("transformer_blocks.", "wrong_blocks."), r"wrong_blocks.*no such layer"),
        (lambda key: f"unet.{key}", r"keys have no place in it: unet.*no such layer"),
        (lambda key: key.replace("lora_A", "lokr_w1"), "no low-rank pair"),
    ],
)
def test_a_lora_of_another_architecture_is_refused_with_its_keys(
    lora: Path, tmp_path: Path, recipe_of: Callable[..., Recipe], rename: Callable[[str], str], message: str
) -> None:
    other = tmp_path / "other.safetensors"
    save_file({rename(key): tensor for key, tensor in load_file(lora).items()}, other)
    with pytest.raises(PlanError, match=rf"steps.0.fuse_lora.path: .*does not fit FluxPipeline: .*{message}"):
        qcompile.apply(recipe_of(other), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sizes_that_differ_are_named(lora: Path, tmp_path: Path, recipe_of: Callable[..., Recipe]) -> None:
    other = tmp_path / "other.safetensors"
    save_file({key: torch.zeros(RANK, 7) if "lora_A" in key else t for key, t in load_file(lora).items()}, other)
    with pytest.raises(PlanError, match="7 inputs; the layer has 192"):
        qcompile.plan(recipe_of(other))


def test_what_is_no_lora(tmp_path: Path, recipe_of: Callable[..., Recipe]) -> None:
    with pytest.raises(ModelError, match=re.escape(f"no LoRA can be read from {tmp_path / 'nothing.safetensors'}")):
        qcompile.plan(recipe_of(tmp_path / "nothing.safetensors"))
    empty = tmp_path / "empty.safetensors"
    save_file({}, empty)
    with pytest.raises(PlanError, match="holds no tensors"):
        qcompile.plan(recipe_of(empty))


class Marker:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"])
@pytest.mark.parametrize("named", [True, False])
def test_a_pickle_is_never_opened(
    name: str, named: bool, tmp_path: Path, recipe_of: Callable[..., Recipe], make_recipe: Callable[..., Recipe]
) -> None:
    marker, folder = tmp_path / "unpickled", tmp_path / "lora"
    folder.mkdir()
    torch.save(Marker(marker), folder / name)
    step = {"path": str(folder), "weight_name": name} if named else {"path": str(folder / name)}
    with pytest.raises(ModelError, match=r"steps.0.fuse_lora.path: no LoRA can be read"):
        qcompile.plan(make_recipe(steps=[{"fuse_lora": step}], verify={}))
    assert not marker.exists()
    torch.load((folder / name).rename(tmp_path / "pickled.pt"), weights_only=False)
    assert marker.exists()  # it would have


def test_a_scale_of_nothing(lora: Path, recipe_of: Callable[..., Recipe]) -> None:
    with pytest.raises(PlanError, match=r"steps.0.fuse_lora.scale: 0 adds nothing"):
        qcompile.plan(recipe_of(lora, scale=0.0))


def test_values_that_are_not_numbers(lora: Path, tmp_path: Path, recipe_of: Callable[..., Recipe]) -> None:
    broken = tmp_path / "broken.safetensors"
    save_file({key: torch.full_like(tensor, float("nan")) for key, tensor in load_file(lora).items()}, broken)
    with pytest.raises(qcompile.StepError, match="could not be fused"):
        qcompile.apply(recipe_of(broken), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_before_everything_else(lora: Path, make_recipe: Callable[..., Recipe]) -> None:
    steps = [{"fuse_qkv": {"component": "transformer"}}, {"fuse_lora": {"path": str(lora)}}]
    with pytest.raises(RecipeError, match=r"fuse_lora \(LORA\) comes after fuse_qkv"):
        make_recipe(steps=steps)
