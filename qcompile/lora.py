"""What a LoRA file changes: read and normalized by diffusers, compared with the modules of a pipeline."""

import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from qcompile.errors import MachineError, ModelError, PlanError

_DOWN_OR_UP = re.compile(
    r"\.(?:(?P<down>lora_A|lora\.down|lora_linear_layer\.down)|(?P<up>lora_B|lora\.up|lora_linear_layer\.up))\.weight$"
)


@dataclass
class Lora:
    """One LoRA file, seen from a pipeline."""

    ranks: dict[tuple[str, str], int] = field(default_factory=dict)
    """(component, module) of every layer it changes, to the rank of the change."""
    unfit: list[str] = field(default_factory=list)
    """Keys that name no layer of the pipeline, or one of another size, with what is wrong."""


def lora_options(path: str, weight_name: str | None, revision: str | None) -> dict[str, Any]:
    """Arguments with which diffusers reads a LoRA: never a pickle."""
    named = {"weight_name": weight_name, "revision": revision}
    return {
        "pretrained_model_name_or_path_or_dict": path,
        "use_safetensors": True,
        **{name: value for name, value in named.items() if value is not None},
    }


def read_lora(pipeline: Any, path: str, weight_name: str | None, revision: str | None, place: str) -> Lora:
    """Read a LoRA file or Hub id and compare it with a pipeline, which may be on meta.

    Raises:
        PlanError: the pipeline's class takes no LoRAs, or the file holds none.
        ModelError: the file can't be found or read.
        MachineError: peft, which diffusers loads adapters with, is missing.
    """
    from importlib.util import find_spec

    from safetensors import SafetensorError

    if not hasattr(pipeline, "lora_state_dict"):
        raise PlanError(f"{place}: diffusers loads no LoRAs into a {type(pipeline).__name__}. Take the step out.")
    if find_spec("peft") is None:
        raise MachineError(f"{place}: LoRAs are loaded with the package peft. Install it: pip install peft.")
    options = lora_options(path, weight_name, revision)
    if hasattr(pipeline, "unet"):
        # Files in kohya's format name the layers of a UNet by their position in it.
        options["unet_config"] = pipeline.unet.config
    try:
        found = type(pipeline).lora_state_dict(**options)
    except (OSError, ValueError, KeyError, NotImplementedError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{place}.path: no LoRA can be read from {path}: {reason}. Give a .safetensors file, a folder with "
            "weight_name, or a Hub id."
        ) from error
    state = found[0] if isinstance(found, tuple) else found
    if not state:
        raise PlanError(f"{place}.path: {path} holds no tensors.")
    return compared(state, {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)})


def compared(state: dict[str, torch.Tensor], components: dict[str, nn.Module]) -> Lora:
    """Find the layer of every low-rank pair in `state`: keys such as `transformer.blocks.0.to_q.lora_A.weight`."""
    lora = Lora()
    modules = {name: dict(part.named_modules()) for name, part in components.items()}
    for key, tensor in state.items():
        matched = _DOWN_OR_UP.search(key)
        component, _, module = key[: matched.start() if matched else None].partition(".")
        if key.endswith(".alpha"):
            continue
        if matched is None:
            lora.unfit.append(f"{key} (no low-rank pair)")
            continue
        layer = modules.get(component, {}).get(module)
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, torch.Tensor) or weight.dim() < 2:
            lora.unfit.append(f"{key} (no such layer)")
            continue
        side, mine = (1, tensor.shape[1]) if matched["down"] else (0, tensor.shape[0])
        if weight.shape[side] != mine:
            what = "inputs" if side else "outputs"
            lora.unfit.append(f"{key} ({mine} {what}; the layer has {weight.shape[side]})")
            continue
        lora.ranks[component, module] = int(tensor.shape[0] if matched["down"] else tensor.shape[1])
    return lora


def traces_of_peft(module: nn.Module) -> list[str]:
    """Names of what peft left in a module tree; empty where nothing is left."""
    left = [name or type(part).__name__ for name, part in module.named_modules() if _is_peft(part)]
    return left + [name for name in ("peft_config", "_hf_peft_config_loaded") if getattr(module, name, None)]


def _is_peft(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] == "peft"
