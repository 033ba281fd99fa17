"""Which tensor of a module goes to which input of a package, read anew on every call: the module stays the owner.

Moving the module, changing a weight or loading another state therefore works as on any module. What compiled code can't
follow, a layer that was replaced or a weight of another dtype, raises instead of being ignored.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from qcompile.aot.callspec import dtype_name
from qcompile.aot.export import rebuild_output
from qcompile.aot.runtime import LoadedPackage
from qcompile.errors import CallError
from qcompile.package import LiftedInput

_ALIGNMENT = 16
"""Bytes: compiled kernels may load in vectors of this size."""


class Binding:
    """One module together with one package that runs it."""

    def __init__(self, module: nn.Module, loaded: LoadedPackage) -> None:
        """Find every weight the package takes in `module`.

        Raises:
            CallError: a weight is missing or has another dtype, shape or layout than the package was built for.
        """
        self.loaded = loaded
        self._block = loaded.package.block
        self._output = loaded.package.output
        self._weights: list[tuple[dict[str, Any], str, tuple[str, ...]] | LiftedInput] = []
        links: dict[tuple[int, str], tuple[dict[str, Any], str, nn.Module | None, str]] = {}
        for item in loaded.package.inputs:
            if item.part is None:
                self._weights.append(item)
                continue
            *path, leaf = item.name.split(".")
            owner = module
            for depth, key in enumerate(path):
                child = owner._modules.get(key)
                links[id(owner), key] = (owner._modules, key, child, ".".join(path[: depth + 1]))
                if child is None:
                    raise CallError(
                        f"{self._block} has no layer {'.'.join(path[: depth + 1])}, which its package needs"
                    )
                owner = child
            store = owner._parameters if leaf in owner._parameters else owner._buffers
            tensor = store.get(leaf)
            if tensor is None:
                raise CallError(f"{self._block} has no tensor {item.name}, which its package needs")
            self._weights.append((store, leaf, _part_path(tensor, item.part)))
        self._links = list(links.values())
        self._processors = [
            (layer, layer.processor, _backend_of(layer.processor), name or self._block)
            for name, layer in module.named_modules()
            if hasattr(layer, "processor")
        ]
        self.check_weights()

    def run(self, found: Mapping[str, Any]) -> Any:
        """Run on a flattened call that fits the package's call spec; returns what the module's forward would.

        Raises:
            CallError: the module was changed in a way that compiled code can't follow.
        """
        for children, key, child, name in self._links:
            if children.get(key) is not child:
                raise CallError(self._replaced(f"layer {name}", children.get(key)))
        for layer, processor, backend, name in self._processors:
            now = getattr(layer, "processor", None)
            if now is not processor:
                raise CallError(self._replaced(f"the processor of {name}", now))
            if _backend_of(now) is not backend:
                raise CallError(
                    f"{self._block}: the attention backend of {name} was changed to {_backend_of(now)} after the "
                    "artifact was loaded; compiled code keeps the one it was built with. Set it in the recipe "
                    "(attention), or load with compiled=False."
                )
        inputs, device = [], None
        for entry in self._weights:
            if isinstance(entry, LiftedInput):
                tensor = _laid_out(found[entry.name], entry)
                if tensor.requires_grad and torch.is_grad_enabled():
                    raise CallError(
                        f"{self._block}: a gradient is asked for, by {entry.name}, and compiled code gives none. Call "
                        "it under torch.no_grad(), or load with compiled=False."
                    )
            else:
                store, leaf, parts = entry
                tensor = store[leaf]
                for part in parts:
                    tensor = getattr(tensor, part)
            if device is None:
                device = tensor.device
            elif tensor.device != device:
                raise CallError(
                    f"{self._block}: its weights and inputs are on {device} and {tensor.device}. Offloading that moves "
                    "single layers does not reach into compiled blocks; move whole components "
                    "(enable_model_cpu_offload)."
                )
            inputs.append(tensor)
        if device is not None and device.type == "cuda" and device.index != self.loaded.device_index:
            raise CallError(
                f"{self._block}: its weights and inputs are on {device}, and its package was opened for "
                f"cuda:{self.loaded.device_index}. Load the artifact with device={str(device)!r}."
            )
        try:
            return rebuild_output(self._output, self.loaded.run(inputs))
        except RuntimeError:
            self.check_weights()
            raise

    def check_weights(self) -> None:
        """Compare every weight with what the package was built for.

        Raises:
            CallError: naming the first that differs.
        """
        for item, entry in zip(self.loaded.package.inputs, self._weights, strict=True):
            if isinstance(entry, LiftedInput):
                continue
            store, leaf, parts = entry
            tensor = store[leaf]
            for part in parts:
                tensor = getattr(tensor, part)
            have = (dtype_name(tensor.dtype), tuple(tensor.shape), tuple(tensor.stride()))
            need = (item.dtype, tuple(item.shape), tuple(item.stride))
            if have != need:
                raise CallError(
                    f"{self._block}: weight {item.name} is {have[0]} {list(have[1])} with strides {list(have[2])}; its "
                    f"package was built for {need[0]} {list(need[1])} with strides {list(need[2])}. A loaded artifact "
                    "keeps the dtype it was built in; load with compiled=False to change it."
                )

    def _replaced(self, what: str, now: object) -> str:
        return (
            f"{self._block}: {what} was replaced by {type(now).__name__} after the artifact was loaded; compiled "
            "code would go on as if it had not been. For adapters (LoRA) and other surgery load with compiled=False."
        )


def _backend_of(processor: object) -> object:
    """What diffusers computes an attention layer with; None is the default of the process."""
    return getattr(processor, "_attention_backend", None)


def _part_path(tensor: torch.Tensor, part: int) -> tuple[str, ...]:
    """Attribute names that lead from a weight to its `part`-th plain tensor."""
    paths = list(_part_paths(tensor))
    return paths[part]


def _part_paths(tensor: torch.Tensor) -> list[tuple[str, ...]]:
    if not is_traceable_wrapper_subclass(tensor):
        return [()]
    names = tensor.__tensor_flatten__()[0]  # type: ignore[attr-defined]
    return [(name, *rest) for name in names for rest in _part_paths(getattr(tensor, name))]


def _laid_out(tensor: torch.Tensor, item: LiftedInput) -> torch.Tensor:
    """Bring an argument of the right shape to the layout that the code was compiled for; most are in it already."""
    if tensor.stride() != item.stride:
        same = all(
            mine == theirs or size == 1
            for size, mine, theirs in zip(tensor.shape, tensor.stride(), item.stride, strict=True)
        )
        if same:
            tensor = tensor.as_strided(item.shape, item.stride)
        else:
            laid_out = torch.empty_strided(item.shape, item.stride, dtype=tensor.dtype, device=tensor.device)
            tensor = laid_out.copy_(tensor)
    return tensor.clone(memory_format=torch.preserve_format) if tensor.data_ptr() % _ALIGNMENT else tensor
