"""A model's weights leave the GPU while another model needs its memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def aside(model: nn.Module, during: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep the weights of `model` in the computer's memory from each run of `during` until `model` is needed again.

    For a denoiser and the decoder that follows it: decoding 1024x1024 takes 2.5 GB, as much as the weights of some
    denoisers. At the end of the body the weights stay where they are; the next body brings them back. Neither model may
    be run by torch.compile; see `compiles_later`.

    Args:
        model: what is moved. Code that was compiled for it reads its weights anew on every call.
        during: what needs the memory.
        device: where `model` runs.
    """

    def leave(*_: Any) -> None:
        model.to("cpu")

    def come_back(*_: Any) -> None:
        model.to(device)

    # A pipeline asks its models for their device before it runs any.
    come_back()
    hooks = (during.register_forward_pre_hook(leave), model.register_forward_pre_hook(come_back))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def away(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep the weights of `model` in the computer's memory during the body, and bring them to `device` afterwards.

    Not where the body fails, for lack of memory for one: whoever needs them then has to say so.
    """
    model.to("cpu")
    yield
    model.to(device)


def compiles_later(model: nn.Module) -> bool:
    """Whether torch.compile runs a part of it, which traces hooks and holds on to weights: nothing here is for it."""
    return any(part._compiled_call_impl is not None for part in model.modules())
