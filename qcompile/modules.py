"""Looking into a model: its linears, its repeated blocks, its bytes."""

import copy
import re
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

# Parts of a name that mark a layer as sensitive: normalization, modulation, embedding and timestep layers stay in high
# precision in every recipe known to keep the picture (the lists of diffusers, vLLM-Omni and sglang agree on these).
SENSITIVE = re.compile(r"norm|embed|modulation|adaln|(^|_)mod(_|$)|time_|timestep|scale_shift", re.IGNORECASE)


def is_sensitive(name: str) -> bool:
    """Whether a part of the dotted `name` marks a normalization, modulation, embedding or timestep layer."""
    return any(SENSITIVE.search(part) for part in name.split("."))


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """Every `nn.Linear` of `model` by dotted name, in module order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Every `nn.Conv2d` of `model` by dotted name, in module order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}


def repeated_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The repeated blocks of `model` by dotted name, in module order; empty where it has none.

    A block is what diffusers names in `_repeated_blocks`; where a class names none, or none that this model has, every
    child of a `ModuleList` that has two or more children of one class. Containers and single layers are no blocks, and
    blocks inside blocks are not listed.
    """
    names = set(getattr(model, "_repeated_blocks", None) or ())
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if type(module).__name__ in names and not _is_inside(name, found):
            found[name] = module
    if found:
        return found
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not _is_inside(name, found):
            kinds = [type(child) for child in module]
            found.update(
                {
                    f"{name}.{key}": child
                    for key, child in module.named_children()
                    if kinds.count(type(child)) > 1 and _is_block(child)
                }
            )
    return found


def _is_inside(name: str, blocks: Iterable[str]) -> bool:
    return any(name.startswith(f"{outer}.") for outer in blocks)


def _is_block(module: nn.Module) -> bool:
    """Whether `module` is called as one and holds layers: lists are never called, a convolution alone is a layer."""
    return not isinstance(module, nn.ModuleList | nn.ModuleDict) and next(module.children(), None) is not None


def kept_by_class(model: nn.Module, name: str) -> str | None:
    """The hint with which the class of `model` keeps the layer `name` in high precision, None where it has none.

    Source: diffusers searches names for the patterns of `_skip_layerwise_casting_patterns` when it stores weights in
    float8, and compares the parts of names with `_keep_in_fp32_modules` when it loads; transformers does the latter
    too (`wo` of T5).
    """
    for pattern in getattr(model, "_skip_layerwise_casting_patterns", None) or ():
        if re.search(pattern, name):
            return f"_skip_layerwise_casting_patterns: {pattern}"
    for part in getattr(model, "_keep_in_fp32_modules", None) or ():
        if part in name.split("."):
            return f"_keep_in_fp32_modules: {part}"
    return None


def bare_copy(module: nn.Module) -> nn.Module:
    """A copy of `module` with tensors of its own, on the device where they are now, and without hooks."""
    twin = copy.copy(module)
    # What hooks refer to may be a whole model.
    twin.__dict__ |= {name: type(value)() for name, value in module.__dict__.items() if "_hooks" in name}
    twin._parameters = {
        name: tensor if tensor is None else nn.Parameter(tensor.detach().clone(), requires_grad=False)
        for name, tensor in module._parameters.items()
    }
    twin._buffers = {name: tensor if tensor is None else tensor.clone() for name, tensor in module._buffers.items()}
    twin._modules = {name: child if child is None else bare_copy(child) for name, child in module._modules.items()}
    return twin


def twin_of(module: nn.Module) -> nn.Module:
    """A deep copy of `module`, but for the plain tensors that its weights are stored as, which both share.

    Tensor subclasses get wrappers of their own, so that what replaces the parts of the copy's leaves `module` alone.
    """
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(tensor): _rewrapped(tensor) for tensor in tensors})


def _rewrapped(tensor: torch.Tensor) -> torch.Tensor:
    if not is_traceable_wrapper_subclass(tensor):
        return tensor
    names, context = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
    parts = {name: _rewrapped(getattr(tensor, name)) for name in names}
    twin = type(tensor).__tensor_unflatten__(parts, context, tensor.size(), tensor.stride())  # type: ignore[attr-defined]
    return nn.Parameter(twin, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin


def inner_tensors(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the plain tensors that `tensor` is stored as: itself, or the parts of a tensor subclass, in its order."""
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:  # type: ignore[attr-defined]
            yield from inner_tensors(getattr(tensor, name))
    else:
        yield tensor


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Bytes that `tensor` takes when stored."""
    return sum(part.numel() * part.element_size() for part in inner_tensors(tensor))


def stored_bytes(model: nn.Module) -> int:
    """Bytes of the parameters and persistent buffers of `model`, tied tensors counted once."""
    return sum(tensor_bytes(tensor) for tensor in stored_tensors(model).values())


def stored_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The `state_dict` of `model`, every tied tensor under its first name only."""
    seen: set[int] = set()
    kept: dict[str, torch.Tensor] = {}
    # keep_vars hands out the tensors themselves: detached views would hide that two names share one.
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            kept[name] = tensor
    return kept
