"""A component's tensors <-> safetensors files. Tensor subclasses are stored as the plain tensors they are made of.

The layout is torchao's own for safetensors (`torchao.prototype.safetensors`): the parts of `to_q.weight` are stored as
`to_q._weight_qdata`, `to_q._weight_scale`, …, and the file's metadata says how to put them together. Only classes on torchao's
allow-list are made; nothing is unpickled.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcompile.errors import ArtifactError

WEIGHTS = "diffusion_pytorch_model"
"""File name stem, as diffusers names the weights of a model."""
_NAMES = "tensor_names"


def write_tensors(module: nn.Module, folder: Path, max_shard_bytes: int = 10 * 10**9) -> None:
    """Write every stored tensor of `module` to `folder`, sharded as diffusers does.

    Raises:
        ArtifactError: a tensor's class has no safetensors form.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    try:
        tensors, metadata = flatten_tensor_state_dict({name: tensor.detach() for name, tensor in _state(module).items()})
    except ValueError as error:
        raise ArtifactError("bad_tensors", f"{folder.name}: {error}; this scheme can't be saved as safetensors.") from error
    folder.mkdir(parents=True, exist_ok=True)
    split = split_torch_state_dict_into_shards(
        tensors, filename_pattern=WEIGHTS + "{suffix}.safetensors", max_shard_size=max_shard_bytes
    )
    owners = _owners(metadata)
    for file, names in split.filename_to_tensors.items():
        held = dict.fromkeys(owners[name] for name in names)
        described = {owner: metadata[owner] for owner in held} | {_NAMES: json.dumps(list(held)), "format": "pt"}
        save_file({name: tensors[name].contiguous() for name in names}, folder / file, metadata=described)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / f"{WEIGHTS}.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def read_tensors(module: nn.Module, folder: Path, device: torch.device) -> None:
    """Give `module`, built on meta and restructured, the tensors stored in `folder`, on `device`.

    Strides of plain tensors are those that the meta tensors have.

    Raises:
        ArtifactError: names, shapes or dtypes differ from what the module has.
    """
    stored = _read(folder, device)
    expected = module.state_dict(keep_vars=True)
    first_names: dict[int, str] = {}
    for name, tensor in expected.items():
        # A tied tensor is stored under its first name and found here under all of them.
        first = first_names.setdefault(id(tensor), name)
        if name not in stored and first in stored:
            stored[name] = stored[first]
    missing, extra = sorted(expected.keys() - stored.keys()), sorted(stored.keys() - expected.keys())
    if missing or extra:
        raise ArtifactError(
            "bad_tensors",
            f"{folder}: {len(missing)} tensors are missing ({', '.join(missing[:3])}) and {len(extra)} are too many "
            f"({', '.join(extra[:3])}) for {type(module).__name__}. The artifact does not fit the installed diffusers.",
        )
    for name, tensor in expected.items():
        stored[name] = _fitted(folder, name, stored[name], tensor)
    module.load_state_dict(stored, strict=True, assign=True)
    module.requires_grad_(False)


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    from qcompile.modules import stored_tensors

    return stored_tensors(module)


def _owners(metadata: dict[str, str]) -> dict[str, str]:
    """Tensor that each stored part belongs to: part name -> tensor name."""
    owners = {}
    for name in json.loads(metadata[_NAMES]):
        parts = json.loads(metadata[name]).get("_tensor_data_names")
        for part in [_part_name(name, part) for part in parts] if parts else [name]:
            owners[part] = name
    return owners


def _part_name(name: str, part: str) -> str:
    module, _, leaf = name.rpartition(".")
    return f"{module}._{leaf}_{part}"


def _read(folder: Path, device: torch.device) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    parts: dict[str, torch.Tensor] = {}
    described: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                parts |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                described |= file.metadata() or {}
        except SafetensorError as error:
            raise ArtifactError("bad_tensors", f"{path}: not a safetensors file: {error}") from error
    tensors = {}
    for name, text in described.items():
        if name in (_NAMES, "format"):
            continue
        try:
            tensors[name] = _put_together(name, json.loads(text), parts)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError("bad_tensors", f"{folder}: {name} can't be put together: {error}") from error
    if parts:
        raise ArtifactError("bad_tensors", f"{folder}: {next(iter(parts))!r} belongs to no tensor named in the metadata.")
    return tensors


def _put_together(name: str, description: dict[str, Any], parts: dict[str, torch.Tensor]) -> torch.Tensor:
    from torchao.prototype.safetensors.safetensors_utils import ALLOWED_TENSORS_SUBCLASSES, object_from_dict

    if description["_type"] == "Tensor":
        return parts.pop(name)
    if description["_type"] not in ALLOWED_TENSORS_SUBCLASSES:
        raise ValueError(f"class {description['_type']!r} is not one that torchao stores as safetensors")
    held = {part: parts.pop(_part_name(name, part)) for part in description["_tensor_data_names"]}
    description["_data"].update(held)
    return object_from_dict(description)  # type: ignore[no-any-return]


def _fitted(folder: Path, name: str, tensor: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    if tensor.shape != expected.shape or tensor.dtype != expected.dtype:
        raise ArtifactError(
            "bad_tensors",
            f"{folder}: {name} is {list(tensor.shape)} {tensor.dtype}; the model has {list(expected.shape)} {expected.dtype}.",
        )
    if type(tensor) is not torch.Tensor or tensor.stride() == expected.stride():
        return tensor
    return torch.empty_strided(expected.shape, expected.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)
