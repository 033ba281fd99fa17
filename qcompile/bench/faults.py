"""Which errors are an arm's own: it falls out with the reason, and the others go on."""

import gc
import subprocess
from contextlib import suppress

import torch

from qcompile.errors import QcompileError

try:
    from triton.errors import TritonError  # type: ignore[import-not-found,import-untyped,unused-ignore]

    _OF_TRITON: tuple[type[Exception], ...] = (TritonError,)
except ImportError:  # a build of torch for CPUs comes without it
    _OF_TRITON = ()

# TypeError, AttributeError, KeyError and AssertionError are mistakes of ours, and are raised.
ARM_FAULTS: tuple[type[Exception], ...] = (
    RuntimeError,  # torch's kernels, its compilers, and memory that ran out
    torch._dynamo.exc.FailOnRecompileLimitHit,
    *_OF_TRITON,
    MemoryError,
    OSError,
    ImportError,
    ValueError,
    subprocess.SubprocessError,
    QcompileError,
)


def reason_of(error: BaseException) -> str:
    """One line that says why an arm fell out."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    if lacks_memory(error):
        return f"out of memory: {lines[0]}"
    return " ".join(lines) if isinstance(error, QcompileError) else f"{type(error).__name__}: {lines[0]}"


def lacks_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the GPU or of the machine."""
    on_cpu = "DefaultCPUAllocator: can't allocate memory" in str(error)
    return on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


def release_memory() -> None:
    """Hand what nobody needs any more back to the GPU. Call it when an error, which holds tensors, is gone."""
    gc.collect()  # compiled code is part of reference cycles
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # after some faults a GPU answers nothing any more
            torch.cuda.empty_cache()
