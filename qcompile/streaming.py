"""A model runs on a GPU while the weights of its blocks stay in the computer's own memory.

`apply` runs the original once more, for reference, and the original is larger than what becomes of it. Each block's
weights come to the GPU while the block before it computes, and are forgotten there afterwards, so that the original
takes two blocks of GPU memory instead of all.
"""

import weakref
from functools import partial
from typing import Any

import torch
from torch import nn

from qcompile.errors import MachineError
from qcompile.modules import repeated_blocks

ALIGNMENT_BYTES = 256


class Streaming:
    """Streams the blocks of one model until it is closed. Steps may change the model meanwhile.

    What a step moves to the GPU stays there; what is still in the computer's memory when a block runs comes and goes.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        """Move everything outside of the blocks to `device`, a GPU, and lock the memory of the blocks' weights.

        The block that holds the model's first parameter moves too, since diffusers takes that parameter's device for
        the model's.

        Raises:
            MachineError: the driver can't lock that much memory.
        """
        first = next(model.parameters(), None)
        blocks = [
            block for block in repeated_blocks(model).values() if all(tensor is not first for tensor in _tensors(block))
        ]
        self._device = device
        self._model = model
        self._blocks = blocks
        self._side = torch.cuda.Stream(device)
        self._ahead: tuple[int, list[tuple[torch.Tensor, torch.Tensor]]] = (-1, [])
        self._home: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        streamed = {id(tensor) for block in blocks for tensor in _tensors(block)}
        for tensor in _tensors(model):
            if id(tensor) not in streamed:
                tensor.data = tensor.data.to(device)
        locked: list[torch.Tensor] = []
        # Also where locking stops half way, or nobody closes this since `apply` failed: the driver must not keep
        # addresses of memory that is somebody else's by then. It holds the buffers until it has run.
        self._unlock = weakref.finalize(self, _unlock, locked)
        self._unlock.atexit = False
        for block in blocks:
            _lock(block, locked)
        self._hooks = {
            block: (
                block.register_forward_pre_hook(partial(self._bring, index), prepend=True),
                block.register_forward_hook(partial(self._put_back, index), always_call=True),
            )
            for index, block in enumerate(blocks)
        }

    def settle(self, module: nn.Module) -> None:
        """Move a part of the model to the GPU for good; blocks in it are ordinary modules from then on."""
        for part in module.modules():
            for hook in self._hooks.pop(part, ()):
                hook.remove()
        for tensor in _tensors(module):
            if tensor.device.type == "cpu":
                tensor.data = tensor.data.to(self._device)

    def close(self) -> None:
        """Move what is not on the GPU yet there, and give the locked memory back."""
        self._ahead = (-1, [])
        self.settle(self._model)
        torch.cuda.synchronize(self._device)
        self._unlock()

    def _bring(self, index: int, *_: Any) -> None:
        found, copies = self._ahead
        if found != index:
            copies = self._fetch(index)
        torch.cuda.current_stream(self._device).wait_stream(self._side)
        self._home[index] = [(tensor, tensor.data) for tensor, _ in copies]
        for tensor, copy in copies:
            tensor.data = copy
        # Nothing is fetched for the next run: a step may change the model before it.
        following = index + 1
        self._ahead = (following, self._fetch(following) if following < len(self._blocks) else [])

    def _fetch(self, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        with torch.cuda.stream(self._side):
            return [
                (tensor, tensor.data.to(self._device, non_blocking=True))
                for tensor in _tensors(self._blocks[index])
                if tensor.device.type == "cpu"
            ]

    def _put_back(self, index: int, *_: Any) -> None:
        # The block has to be done before its memory serves the next one; the copy that is under way goes on.
        torch.cuda.current_stream(self._device).synchronize()
        for tensor, home in self._home.pop(index, []):
            tensor.data = home


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _lock(block: nn.Module, locked: list[torch.Tensor]) -> None:
    """Gather a block's tensors in one page-locked buffer, which GPUs read several times as fast; `locked` gets it.

    torch's own pinned memory comes in powers of two, and is kept by the process when it is free.
    """
    tensors = [tensor for tensor in _tensors(block) if tensor.device.type == "cpu" and tensor.numel()]
    sizes = [-(-tensor.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for tensor in tensors]
    if not tensors:
        return
    buffer = torch.empty(sum(sizes), dtype=torch.uint8)
    try:
        torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(buffer.data_ptr(), buffer.numel(), 0))
    except RuntimeError as error:
        raise MachineError(
            f"{buffer.numel() / 1e6:,.0f} MB of memory could not be locked for the GPU ({error}). Raise the limit of "
            "locked memory (ulimit -l), or apply the recipe to a live pipeline that is on the GPU already."
        ) from error
    locked.append(buffer)
    for tensor, part in zip(tensors, buffer.split(sizes), strict=True):
        flat = part[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        tensor.data = flat.copy_(tensor.data)


def _unlock(locked: list[torch.Tensor]) -> None:
    while locked:
        torch.cuda.check_error(torch.cuda.cudart().cudaHostUnregister(locked[-1].data_ptr()))
        locked.pop()
