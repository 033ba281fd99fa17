"""Getting the arguments of a component from a real call of the pipeline around it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from qcompile.aot.callspec import Arguments, Signature, spec_of
from qcompile.errors import PlanError
from qcompile.package import CallSpec


class _Captured(BaseException):
    """Unwinds the pipeline once the component was called; not an Exception, so that no handler on the way takes it."""


def capture_first_call(module: nn.Module, run: Callable[[], Any], what: str) -> Arguments:
    """Run `run` until it calls `module`, and return the arguments of that call; the module itself does not run.

    Raises:
        PlanError: `run` came to its end without calling the module.
    """
    signature = Signature(module)
    captured: list[Arguments] = []

    def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured.append(signature.name(args, kwargs))
        raise _Captured

    hook = module.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad():
            run()
    except _Captured:
        return captured[0]
    finally:
        hook.remove()
    raise PlanError(f"the pipeline never called {what}, so there is nothing to compile it for; check the recipe's call")


@dataclass
class LayerCalls:
    """What one pass through a model showed of the calls to some of its modules."""

    specs: dict[str, list[CallSpec]]
    """Distinct calls of every module, by its dotted name."""
    arguments: dict[tuple[str, CallSpec], Arguments]
    """Copies of the arguments of the calls that were kept."""


def capture_calls(
    modules: Mapping[str, nn.Module], run: Callable[[], Any], keep: Callable[[str, CallSpec], bool]
) -> LayerCalls:
    """Run `run` and record what `modules` are called with.

    Args:
        modules: by dotted name.
        run: calls the model they are part of.
        keep: asked once for each module and distinct call whether to copy the tensors; all of them would not fit.
    """
    calls = LayerCalls({name: [] for name in modules}, {})

    def recorder(name: str, signature: Signature) -> Callable[..., None]:
        def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            named = signature.name(args, kwargs)
            spec = spec_of(named)
            if spec not in calls.specs[name]:
                calls.specs[name].append(spec)
                if keep(name, spec):
                    calls.arguments[name, spec] = copy_tensors(named)

        return record

    hooks = [
        module.register_forward_pre_hook(recorder(name, Signature(module)), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def copy_tensors(value: Any) -> Any:
    """Copy every tensor in `value`, layout kept: what runs afterwards may overwrite its inputs."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone(memory_format=torch.preserve_format)
    if isinstance(value, dict):
        return {name: copy_tensors(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copy_tensors(inner) for inner in value)
    return value


def count_rows(layers: Mapping[str, nn.Linear], run: Callable[[], Any]) -> dict[str, int]:
    """Run `run` and return the rows each of `layers` saw in one call, the fewest where it was called more than once.

    A linear given [..., in_features] sees the product of the leading dimensions.
    """
    rows: dict[str, int] = {}

    def counter(name: str, features: int) -> Callable[..., None]:
        def count(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = args[0] if args else next(iter(kwargs.values()))
            seen = given.numel() // max(features, 1)
            rows[name] = min(rows.get(name, seen), seen)

        return count

    hooks = [
        layer.register_forward_pre_hook(counter(name, layer.in_features), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad(), _autocast_knows_meta():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return rows


class _Autocast(torch.autocast):
    """`torch.autocast`, which refuses the device type of meta tensors even to be switched off for it."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "meta" else device_type, *args, **kwargs)


@contextmanager
def _autocast_knows_meta() -> Iterator[None]:
    # Models of diffusers switch autocast off around their rotary embeddings with `device_type=tensor.device.type`.
    before = torch.autocast
    torch.autocast = _Autocast  # type: ignore[misc]
    try:
        yield
    finally:
        torch.autocast = before  # type: ignore[misc]
