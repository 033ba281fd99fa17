"""Values that are not finite, images of one colour, and the first module that is to blame."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from qcompile.modules import inner_tensors

NOT_FINITE, CONSTANT = "whose output holds NaN or infinity", "whose output is one value throughout"


@dataclass(frozen=True)
class Offender:
    """The first module, in the order in which calls end, whose output is at fault."""

    component: str
    module: str
    """Dotted name; empty for the component itself."""
    class_name: str
    weights: tuple[str, ...]
    """Its own parameters and buffers that hold values that are not finite."""
    fault: str = NOT_FINITE

    def __str__(self) -> str:
        blame = f"; so does its {' and '.join(self.weights)}" if self.weights else ""
        name = f"{self.component}.{self.module}".rstrip(".")
        return f"{name} ({self.class_name}) is the first module {self.fault}{blame}"


class _Found(BaseException):
    """Unwinds the run once the module is known; not an Exception, so that no handler on the way takes it."""


def first_not_finite(components: Mapping[str, nn.Module], run: Callable[[], Any]) -> Offender | None:
    """Run `run` and find the first module whose output is not finite.

    Args:
        components: models by name; all their modules are watched.
        run: calls them. It is left as soon as the module is found.

    Returns:
        None where every output is finite. Code compiled ahead of time shows as one module.
    """
    return _first(components, run, lambda output: not is_finite(output), NOT_FINITE)


def first_constant(components: Mapping[str, nn.Module], run: Callable[[], Any]) -> Offender | None:
    """The same for the first module whose output is one value throughout, so that nothing is left of its input."""
    return _first(components, run, _is_constant, CONSTANT)


def _first(
    components: Mapping[str, nn.Module], run: Callable[[], Any], is_bad: Callable[[Any], bool], fault: str
) -> Offender | None:
    found: list[Offender] = []

    def watcher(component: str, name: str) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if is_bad(output):
                found.append(Offender(component, name, type(module).__name__, _bad_weights(module), fault))
                raise _Found

        return look

    hooks = [
        module.register_forward_hook(watcher(component, name))
        for component, model in components.items()
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad(), _uncompiled():
            run()
    except _Found:
        return found[0]
    finally:
        for hook in hooks:
            hook.remove()
    return None


def image_fault(values: np.ndarray) -> str | None:
    """What is wrong with an image as a whole, None where nothing is.

    Args:
        values: [height, width, 3], from 0 to 1.
    """
    if not np.isfinite(values).all():
        return "holds values that are not finite"
    pixels = (values * 255).round()
    if (pixels == pixels[0, 0]).all():
        return "is black" if not pixels.any() else "is of one colour"
    return None


def is_finite(output: Any) -> bool:
    """Whether every number in the tensors of a module's output is finite."""
    if isinstance(output, torch.Tensor):
        return _tensor_is_finite(output)
    if isinstance(output, dict):
        return all(is_finite(inner) for inner in output.values())
    if isinstance(output, list | tuple):
        return all(is_finite(inner) for inner in output)
    if isinstance(getattr(output, "sample", None), torch.Tensor):
        return is_finite(output.sample)
    return True


def _is_constant(output: Any) -> bool:
    if not isinstance(output, torch.Tensor) or not output.is_floating_point() or output.numel() < 2:
        return False
    values = output.float()
    return bool((values == values.flatten()[0]).all())


def _bad_weights(module: nn.Module) -> tuple[str, ...]:
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return tuple(
        name for name, tensor in own if not all(_tensor_is_finite(part) for part in inner_tensors(tensor.detach()))
    )


def _tensor_is_finite(tensor: torch.Tensor) -> bool:
    # float8 has no isfinite; every one of its values is exact in float32.
    return not tensor.is_floating_point() or bool(tensor.float().isfinite().all())


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Run what torch.compile made eagerly: compiled code calls no hooks that were added after it was made."""
    with torch.compiler.set_stance("force_eager"):
        yield
