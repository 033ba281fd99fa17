"""What a module is called with: its arguments by name, and the spec that tells one call from another.

A call is normalized to a mapping from parameter name to value (`Arguments`): positional arguments get their names,
missing ones their defaults. Flattened, every tensor and every plain value has a path such as `image_rotary_emb.0`.
`None` and empty containers have no path: passing them is the same as leaving the argument out.
"""

import dis
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from qcompile.errors import CallError
from qcompile.package import CallSpec, TensorSpec

Arguments = Mapping[str, Any]
"""Arguments of one call by parameter name."""
PLAIN = (bool, int, float, str, torch.dtype, torch.device)
"""Types besides tensors that an argument may hold; they are part of the spec by value."""

_DTYPE_NAMES = {
    value: str(value).removeprefix("torch.") for value in vars(torch).values() if type(value) is torch.dtype
}


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for `torch.bfloat16`."""
    return _DTYPE_NAMES[dtype]


def spec_of(arguments: Arguments) -> CallSpec:
    """Describe a call.

    Raises:
        CallError: it has no tensor, tensors on several device types, or an argument of a type that can't be compared.
    """
    found = leaves(arguments)
    tensors = {path: leaf for path, leaf in found.items() if isinstance(leaf, torch.Tensor)}
    kinds = sorted({tensor.device.type for tensor in tensors.values()})
    if len(kinds) != 1:
        raise CallError(
            f"a compiled call has its tensors on one device type; this one has {' and '.join(kinds) or 'none'}"
        )
    specs = tuple(
        TensorSpec(path, dtype_name(tensor.dtype), tuple(tensor.shape), tuple(tensor.stride()))
        for path, tensor in tensors.items()
    )
    return CallSpec(kinds[0], specs, tuple((path, repr(leaf)) for path, leaf in found.items() if path not in tensors))


def call_key(found: Mapping[str, Any]) -> tuple[Any, ...]:
    """The identity of a flattened call: equal to `CallSpec.key` of the spec it fits. On the hot path of every step."""
    tensors, values, device_type = [], [], ""
    for path, leaf in found.items():
        if isinstance(leaf, torch.Tensor):
            tensors.append((path, _DTYPE_NAMES[leaf.dtype], tuple(leaf.shape)))
            kind = leaf.device.type
            device_type = kind if device_type in ("", kind) else "several device types"
        else:
            values.append((path, repr(leaf)))
    tensors.sort()
    values.sort()
    return (device_type, tuple(tensors), tuple(values))


def leaves(arguments: Arguments) -> dict[str, Any]:
    """Flatten a call into tensors and plain values by path, in a fixed order.

    Raises:
        CallError: an argument holds something else than tensors, plain values, lists, tuples and dicts of them.
    """
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        _walk(name, value, found)
    return found


def _walk(path: str, value: Any, found: dict[str, Any]) -> None:
    if value is None:
        return
    if isinstance(value, (torch.Tensor, *PLAIN)):
        found[path] = value
    elif isinstance(value, dict):
        for name, inner in value.items():
            _walk(f"{path}.{name}", inner, found)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _walk(f"{path}.{index}", inner, found)
    else:
        raise CallError(
            f"argument {path} is a {type(value).__name__}; compiled code takes tensors, numbers, strings and "
            "containers of them. Load with compiled=False to call the component with it."
        )


def rebuild(template: Any, tensors: Iterator[torch.Tensor]) -> Any:
    """Put `tensors` where `template` (arguments or a part of them) has tensors, in the order of `leaves`."""
    if isinstance(template, torch.Tensor):
        return next(tensors)
    if isinstance(template, dict):
        return {name: rebuild(inner, tensors) for name, inner in template.items()}
    if isinstance(template, list | tuple):
        return type(template)([rebuild(inner, tensors) for inner in template])
    return template


class Signature:
    """Names the arguments of calls to one module's forward, as its class defines it."""

    def __init__(self, module: nn.Module) -> None:
        forward: Callable[..., Any] = type(module).forward
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self.positional = [parameter.name for parameter in parameters if parameter.kind in by_position]
        more = [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.VAR_POSITIONAL]
        # HunyuanVideo hands all of its blocks what only some take; the others let it fall into `*args` they never read.
        self.drops_more = bool(more) and not _reads(forward, more[0])
        self.defaults = {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.kind not in variadic and parameter.default is not inspect.Parameter.empty
        }

    def name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Normalize one call to arguments by name, defaults filled in, the same order for every way to write it.

        Raises:
            TypeError: more positional arguments than the forward has.
        """
        if self.drops_more:
            args = args[: len(self.positional)]
        if len(args) > len(self.positional):
            raise TypeError(f"{len(args)} positional arguments, but forward takes {len(self.positional)}")
        given = dict(zip(self.positional, args, strict=False)) | dict(kwargs)
        named = {name: given[name] if name in given else self.defaults[name] for name in self._known(given)}
        return named | given

    def _known(self, given: Mapping[str, Any]) -> list[str]:
        return [name for name in self.positional if name in given or name in self.defaults] + [
            name for name in self.defaults if name not in self.positional
        ]


def _reads(function: Callable[..., Any], name: str) -> bool:
    """Whether the code of `function` ever looks at its variable `name`."""
    for instruction in dis.get_instructions(inspect.unwrap(function)):
        named = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
        if instruction.opname.startswith("LOAD") and name in named:
            return True
    return False
