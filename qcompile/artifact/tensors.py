"""A component's tensors <-> safetensors files. Tensor subclasses are stored as the plain tensors they are made of.

The layout is torchao's own for safetensors (`torchao.prototype.safetensors`): the parts of `to_q.weight` are stored as
`to_q._weight_qdata`, `to_q._weight_scale`, …, and the file's metadata says how to put them together. Only classes on
torchao's allow-list and on ours (`own_tensors`) are made; nothing is unpickled.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcompile.artifact.manifest import HOSTILE
from qcompile.artifact.stored import Ahead, Stored, read_stored
from qcompile.errors import ArtifactError

WEIGHTS = "diffusion_pytorch_model"
"""File name stem, as diffusers names the weights of a model."""
SHARD_BYTES = 2 * 10**9
"""Most bytes of one file: digests of several files are computed, and several files read, side by side."""
_NAMES = "tensor_names"
_NO_TENSORS = (_NAMES, "format")
"""Keys of a file's metadata that describe no tensor."""
_PLAIN = "Tensor"
_UNFIT = (
    "The artifact does not fit the installed diffusers: install the version that its qcompile.json names, or make it "
    "anew with `qcompile apply`."
)


def write_tensors(module: nn.Module, folder: Path, max_shard_bytes: int = SHARD_BYTES) -> None:
    """Write every stored tensor of `module` to `folder`, sharded as diffusers does.

    Raises:
        ArtifactError: a tensor's class has no safetensors form.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    from qcompile.modules import stored_tensors

    try:
        tensors, metadata = _flatten(stored_tensors(module))
    except ValueError as error:
        raise ArtifactError(
            "bad_tensors", f"{folder.name}: {error}; it can't be saved as safetensors. Choose another scheme."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    split = split_torch_state_dict_into_shards(
        tensors, filename_pattern=WEIGHTS + "{suffix}.safetensors", max_shard_size=max_shard_bytes
    )
    owners = _owners(metadata)
    for file, names in split.filename_to_tensors.items():
        held = dict.fromkeys(owners[name] for name in names)
        described = {owner: metadata[owner] for owner in held} | {_NAMES: json.dumps(list(held)), "format": "pt"}
        save_file(_alone({name: tensors[name] for name in names}), folder / file, metadata=described)
        _sort_metadata(folder / file)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / f"{WEIGHTS}.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def read_tensors(module: nn.Module, folder: Path, device: torch.device, ahead: Ahead | None = None) -> None:
    """Give `module`, built on meta and restructured, the tensors stored in `folder`, on `device`.

    Strides of plain tensors are those that the meta tensors have. Tensors tied in `module` are tied afterwards.

    Args:
        module: gets the tensors.
        folder: the component's.
        device: where to.
        ahead: its files, where they were read ahead; they are taken out of it.

    Raises:
        ArtifactError: names, shapes or dtypes differ from what the module has.
    """
    stored = _assemble(folder, read_stored(folder, device, ahead))
    expected = module.state_dict(keep_vars=True)
    first_names: dict[int, str] = {}
    for name, tensor in expected.items():
        # A tied tensor is stored under its first name and found here under all of them.
        first = first_names.setdefault(id(tensor), name)
        if first != name and first in stored:
            stored[name] = stored[first]
    missing, extra = sorted(expected.keys() - stored.keys()), sorted(stored.keys() - expected.keys())
    if missing or extra:
        raise ArtifactError(
            "bad_tensors",
            f"{folder}: for {type(module).__name__}, {_count(missing, 'missing')} and "
            f"{_count(extra, 'too many')}. {_UNFIT}",
        )
    fitted: dict[str, torch.Tensor] = {}
    for name, tensor in expected.items():
        first = first_names[id(tensor)]
        if first != name:
            fitted[name] = fitted[first]
            continue
        found = _fitted(folder, name, stored[name], tensor)
        # Made here, since load_state_dict would make a parameter of its own for every name of a tied tensor.
        fitted[name] = nn.Parameter(found, requires_grad=False) if isinstance(tensor, nn.Parameter) else found
    module.load_state_dict(fitted, strict=True, assign=True)
    module.requires_grad_(False)


def _flatten(stored: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Plain tensors by the names they are stored under, and the metadata of every tensor, both in `stored`'s order."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    from qcompile.artifact import own_tensors

    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    for name, tensor in stored.items():
        if type(tensor).__name__ in own_tensors.NAMES:
            parts, description = own_tensors.describe(tensor)
            tensors |= {_part_name(name, part): value for part, value in parts.items()}
            metadata[name] = json.dumps(description)
        else:
            found, described = flatten_tensor_state_dict({name: tensor.detach()})
            metadata[name] = described[name]
            # torchao copies the parts, and copies of all of a model's are as large as the model.
            parts = json.loads(described[name]).get("_tensor_data_names", ())
            tensors |= {_part_name(name, part): getattr(tensor, part).detach() for part in parts} or found
    return tensors, metadata | {_NAMES: json.dumps(list(stored))}


def _count(names: list[str], what: str) -> str:
    if not names:
        return f"no tensor is {what}"
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} {'tensor is' if len(names) == 1 else 'tensors are'} {what} ({shown})"


def _alone(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as their file holds them: row-major, each in memory of its own, as safetensors demands."""
    taken: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        tensor = tensor.cpu().contiguous()
        memory = tensor.untyped_storage()
        if memory.nbytes() != tensor.nbytes or memory.data_ptr() in taken:
            tensor = tensor.clone()
        taken.add(tensor.untyped_storage().data_ptr())
        found[name] = tensor
    return found


def _sort_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file, which safetensors writes in random order: same tensors, same digest."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        if len(content) == size:
            file.seek(8)
            file.write(content)


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


def _assemble(folder: Path, stored: Stored) -> dict[str, torch.Tensor]:
    """Tensors, subclasses among them, of the plain ones that they are stored as."""
    parts = stored.tensors
    tensors = {}
    for name, text in stored.described.items():
        if name in _NO_TENSORS:
            continue
        try:
            tensors[name] = _put_together(name, json.loads(text), parts)
        except KeyError as error:
            raise ArtifactError("bad_tensors", f"{folder}: {name} lacks {error}. {HOSTILE}") from error
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise ArtifactError("bad_tensors", f"{folder}: {name} can't be put together: {error}. {HOSTILE}") from error
    if parts:
        raise ArtifactError(
            "bad_tensors", f"{folder}: {next(iter(parts))} belongs to no tensor that the metadata describes. {HOSTILE}"
        )
    return tensors


def _put_together(name: str, description: Any, parts: dict[str, torch.Tensor]) -> torch.Tensor:
    from torchao.prototype.safetensors.safetensors_utils import ALLOWED_TENSORS_SUBCLASSES, object_from_dict

    from qcompile.artifact import own_tensors, torchao_checks

    if not isinstance(description, dict):
        raise TypeError("its description is no JSON object")
    kind = description["_type"]
    if kind == _PLAIN:
        return parts.pop(name)
    if kind in own_tensors.NAMES:
        return own_tensors.put_together(
            description, {part: parts.pop(_part_name(name, part)) for part in description["_tensor_data_names"]}
        )
    if kind not in ALLOWED_TENSORS_SUBCLASSES:
        raise ValueError(f"class {kind!r} is neither one that torchao stores as safetensors nor one of qcompile's")
    torchao_checks.check_names(description)
    held = {part: parts.pop(_part_name(name, part)) for part in description["_tensor_data_names"]}
    tensor: torch.Tensor = object_from_dict({**description, "_data": description["_data"] | held})
    torchao_checks.check_parts(tensor, held)
    return tensor


def _fitted(folder: Path, name: str, tensor: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    if tensor.shape != expected.shape or tensor.dtype != expected.dtype:
        raise ArtifactError(
            "bad_tensors",
            f"{folder}: {name} is {list(tensor.shape)} {tensor.dtype}; the model has {list(expected.shape)} "
            f"{expected.dtype}. {_UNFIT}",
        )
    if type(tensor) is not torch.Tensor or tensor.stride() == expected.stride():
        return tensor
    return torch.empty_strided(expected.shape, expected.stride(), dtype=tensor.dtype, device=tensor.device).copy_(
        tensor
    )
