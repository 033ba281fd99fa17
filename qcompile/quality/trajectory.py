"""The denoiser's calls along the original's own trajectory.

Two pipelines that differ by a rounding error drift apart from step to step, so that the difference of what they compute
at step 20 says little about either. Here the original alone paints; what its denoiser is given at every step is kept,
and the other denoiser is run on those same inputs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from qcompile.aot.callspec import Arguments, Signature
from qcompile.aot.compare import relative_error


@dataclass
class Trajectory:
    """What a denoiser was called with and gave back, call by call, on the CPU.

    A step that calls the denoiser twice (classifier-free guidance without a batch) is two calls.
    """

    calls: list[Arguments] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.calls)

    def errors(self, denoiser: nn.Module, only: Sequence[int] | None = None) -> tuple[float, ...]:
        """Relative error of another denoiser's output at every call, or at the calls `only` names, by index."""
        device = next(denoiser.parameters()).device
        found = []
        with torch.no_grad():
            for index in range(len(self)) if only is None else only:
                output = denoiser(**copied(self.calls[index], device))
                found.append(relative_error(output, moved(self.outputs[index], device)))
        return tuple(found)

    def spread(self, count: int) -> tuple[int, ...]:
        """Indices of `count` calls spread evenly from the first to the last, or of all where there are fewer."""
        if count >= len(self) or count < 2:
            return tuple(range(len(self)))[: max(count, 1)]
        return tuple(round(index * (len(self) - 1) / (count - 1)) for index in range(count))


@contextmanager
def recorded(denoiser: nn.Module) -> Iterator[Trajectory]:
    """Record every call of `denoiser` while the body runs. It must run eagerly: compiled code leaves hooks out."""
    trajectory, signature, copy = Trajectory(), Signature(denoiser), _copier()

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A copy made before the call: the denoiser may write into its inputs.
        trajectory.calls.append({name: copy(value) for name, value in signature.name(args, kwargs).items()})

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        trajectory.outputs.append(moved(output, torch.device("cpu")))

    hooks = [
        denoiser.register_forward_pre_hook(before, with_kwargs=True),
        denoiser.register_forward_hook(after),
    ]
    try:
        yield trajectory
    finally:
        for hook in hooks:
            hook.remove()


def moved(value: Any, device: torch.device) -> Any:
    """`value` with its tensors on `device`, layout kept; those that are there already are not copied."""
    return _mapped(value, lambda tensor: tensor.detach().to(device))


def copied(value: Any, device: torch.device) -> Any:
    """`value` with copies of its tensors on `device`: what is called with them may write into them."""
    return _mapped(value, lambda tensor: tensor.detach().to(device, copy=True))


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        # Outputs of diffusers are dicts whose classes take no mapping; plain ones are as good to compare.
        return {name: _mapped(inner, change) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_mapped(inner, change) for inner in value])
    return value


def _copier() -> Callable[[Any], Any]:
    """Copies tensors to the CPU. One that is passed again unchanged (text embeddings) is kept once."""
    kept: dict[int, tuple[torch.Tensor, int, torch.Tensor]] = {}

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        version = -1 if tensor.is_inference() else tensor._version
        known = kept.get(id(tensor))
        if known is not None and known[0] is tensor and known[1] == version >= 0:
            return known[2]
        copied = tensor.detach().to("cpu", copy=True)
        if len(kept) > 64:
            kept.clear()  # latents are new at every step; they need not stay on the GPU
        kept[id(tensor)] = (tensor, version, copied)
        return copied

    return lambda value: _mapped(value, copy)
