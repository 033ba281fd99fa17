"""A LoRA for a family's denoiser, made in place: the recipe that fuses one names a file on the Hub."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from qcompile.modules import linears
from qcompile.noise import quiet_libraries
from qcompile.pipeline import denoiser_of, meta_pipeline, models_of
from qcompile.recipe import Recipe

RANK = 4
NAME = "pytorch_lora_weights.safetensors"
"""What diffusers calls the file in a folder."""


def lora_in_place(recipe: Recipe, model: Path, out: Path) -> list[str]:
    """Overrides with which a recipe fuses a LoRA made for the pipeline at `model`; none for recipes without one."""
    changed = []
    for index, step in enumerate(recipe.steps):
        if step.kind == "fuse_lora":
            place = f"steps.{index}.fuse_lora"
            changed += [f"{place}.path={write_lora(model, out)}", f"{place}.weight_name=null"]
    return changed


def write_lora(model: Path, out: Path) -> Path:
    """Write a LoRA over the attention projections of the denoiser of the pipeline at `model`, in diffusers' names."""
    with quiet_libraries():
        models = models_of(meta_pipeline(model, torch.bfloat16))
    component = denoiser_of(models)
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, layer in linears(models[component]).items():
        if name.endswith(("to_q", "to_k", "to_v")):
            for part, shape in (("lora_A", (RANK, layer.in_features)), ("lora_B", (layer.out_features, RANK))):
                values = torch.randn(shape, generator=generator) / 10
                tensors[f"{component}.{name}.{part}.weight"] = values.bfloat16()
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / NAME)
    return out / NAME
