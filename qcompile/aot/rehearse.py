"""The first call of a loaded component, on zeros: at load, and not in the first step of somebody's image.

Packages are read and bound when they first run, which each does once, for all its layers. What runs eagerly around
them takes longest the first time, too: cuDNN looks for a way to compute each convolution, milliseconds for every size,
and kernels are brought to the GPU. So the component runs as well, with what its packages gave in their place.
"""

import ast
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from qcompile.aot.bind import Binding
from qcompile.aot.callspec import Arguments, invoke
from qcompile.aot.dispatch import CompiledForward
from qcompile.aot.runtime import LoadedPackage
from qcompile.package import CallSpec, TensorSpec

REFUSALS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What code raises that can't do with zeros."""


def rehearse(module: nn.Module, loaded: list[LoadedPackage], calls: Mapping[str, CallSpec]) -> list[str]:
    """Run each package once, and `module` once for each of `calls`. What cuDNN chooses serves the thread that loads.

    Args:
        module: the component, its packages installed.
        loaded: packages of this component.
        calls: the component's own call specs by shape label; none where only its parts are called.

    Returns:
        Why `module` could not run, one line for each of `calls` that it refused: code that looks into values may refuse
        zeros, which says nothing about a real call.

    Raises:
        CallError: a layer's weights are not those that its package was built for.
        RuntimeError: compiled code failed, or the GPU is not to be used any more.
    """
    refused = []
    with torch.no_grad():
        given = {item: _run(module.get_submodule(item.package.layers[0]), item) for item in loaded}
        if isinstance(module.forward, CompiledForward):  # nothing is around it
            return []
        with _in_place_of_packages(module, given):
            for label, spec in calls.items():
                try:
                    invoke(module, zeros_for(spec, _device(module, spec)))
                    if spec.device_type == "cuda":
                        torch.cuda.synchronize(_device(module, spec))
                except torch.AcceleratorError:
                    raise
                except REFUSALS as error:
                    refused.append(f"{label}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
    return refused


def zeros_for(spec: CallSpec, device: torch.device) -> Arguments:
    """Arguments of a call that fits `spec`, all its tensors zeros.

    Raises:
        ValueError: a plain value can't be made from what the spec says of it, a dtype for one.
    """
    found: dict[str, Any] = {tensor.path: _zeros(tensor, device) for tensor in spec.tensors}
    found |= {path: ast.literal_eval(text) for path, text in spec.values}
    tree: dict[str, Any] = {}
    for path, leaf in found.items():
        *parents, last = path.split(".")
        branch = tree
        for name in parents:
            branch = branch.setdefault(name, {})
        branch[last] = leaf
    return {name: _nested(value) for name, value in tree.items()}


def _nested(value: Any) -> Any:
    """Dicts by number are sequences. No spec tells lists from tuples: sizes come as tuples, many in lists."""
    if not isinstance(value, dict):
        return value
    inner = {name: _nested(item) for name, item in value.items()}
    if not all(name.isdecimal() for name in inner):
        return inner
    items = [inner.get(str(index)) for index in range(1 + max(map(int, inner)))]
    return items if any(isinstance(item, list | tuple) for item in items) else tuple(items)


def _run(layer: nn.Module, item: LoadedPackage) -> Any:
    call = item.package.call
    device = _device(layer, call)
    return Binding(layer, item).run({tensor.path: _zeros(tensor, device) for tensor in call.tensors})


def _device(module: nn.Module, spec: CallSpec) -> torch.device:
    first = next(iter([*module.parameters(), *module.buffers()]), None)
    return torch.device(spec.device_type) if first is None else first.device


def _zeros(spec: TensorSpec, device: torch.device) -> torch.Tensor:
    return torch.empty_strided(spec.shape, spec.stride, dtype=getattr(torch, spec.dtype), device=device).zero_()


@contextmanager
def _in_place_of_packages(module: nn.Module, given: Mapping[LoadedPackage, Any]) -> Iterator[None]:
    """Let compiled layers give what their packages gave, without running them."""

    def give(forward: CompiledForward, *args: Any, **kwargs: Any) -> Any:
        return given[forward.package_for(args, kwargs)]

    forwards = {part: part.forward for part in module.modules() if isinstance(part.forward, CompiledForward)}
    for part, forward in forwards.items():
        part.forward = partial(give, forward)
    try:
        yield
    finally:
        for part, forward in forwards.items():
            part.forward = forward
