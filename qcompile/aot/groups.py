"""Which modules can share one package: those that differ in nothing but the values of their tensors."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from qcompile.aot.callspec import PLAIN
from qcompile.modules import inner_tensors

# Bookkeeping that every module carries: hooks, containers of its tensors and children.
_IGNORED = set(vars(nn.Module()))


def group_alike(modules: Mapping[str, nn.Module]) -> list[list[str]]:
    """Group module names by what a compiled graph of theirs would depend on besides tensor values.

    That is: classes, attributes that are plain values, tensors that are neither parameters nor buffers (by content),
    and dtype, shape, stride and subclass of every parameter and buffer. Order is that of the first member.
    """
    groups: dict[str, list[str]] = {}
    for name, module in modules.items():
        groups.setdefault(fingerprint(module), []).append(name)
    return list(groups.values())


def fingerprint(module: nn.Module) -> str:
    """Digest of everything about `module` that a graph of it would have baked in."""
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        digest.update(f"{name}:{type(part).__module__}.{type(part).__qualname__}\n".encode())
        for key, value in sorted(vars(part).items()):
            if key not in _IGNORED:
                digest.update(f"{name}.{key}={_describe(value)}\n".encode())
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{name}={_describe_layout(tensor)}\n".encode())
    return digest.hexdigest()


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        content = value.detach().to("cpu", torch.float64).numpy().tobytes() if value.device.type != "meta" else b""
        return f"{value.dtype}{tuple(value.shape)}{hashlib.sha256(content).hexdigest()}"
    if value is None or isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, list | tuple | set):
        return f"{type(value).__name__}({','.join(_describe(inner) for inner in value)})"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_describe(inner)}" for key, inner in value.items())
    if isinstance(value, functools.partial):
        return f"{_describe(value.func)}({_describe(value.args)},{_describe(value.keywords)})"
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    # An attention processor and the like: its class, and one level of its plain attributes.
    plain = {key: inner for key, inner in sorted(getattr(value, "__dict__", {}).items()) if isinstance(inner, PLAIN)}
    return f"{type(value).__module__}.{type(value).__qualname__}{plain}"


def _describe_layout(tensor: torch.Tensor) -> str:
    parts = [f"{part.dtype}{tuple(part.shape)}{tuple(part.stride())}" for part in inner_tensors(tensor)]
    context = tensor.__tensor_flatten__()[1] if is_traceable_wrapper_subclass(tensor) else ""  # type: ignore[attr-defined]
    return f"{type(tensor).__name__}{parts}{context}"
