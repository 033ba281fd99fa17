"""A GPU, its driver and its libraries get ready while Python imports others, which needs only the interpreter."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DRIVER = "libcuda.so.1"
MOST_DIGITS = 4
"""Of a GPU's number."""


def wake(device: str) -> None:
    """Have the driver make its context on a GPU, if `device` is one, so that torch finds it there.

    torch asks for it late and holds the interpreter's lock meanwhile; ctypes lets go of it. The context is the one of
    the whole process, which any library gets, and what fails here torch will be told too, and say.

    Args:
        device: `cpu`, `cuda` or `cuda:N`; anything else is for others to refuse.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal() or len(number) > MOST_DIGITS:
        return
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(handle), int(number or 0)) == 0:
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle)


def exercise(device: torch.device, dtype: torch.dtype) -> None:
    """Run, on next to nothing, what denoisers run outside of their compiled blocks; the results are forgotten.

    cuBLAS and cuDNN are opened, and code of kernels is brought to the GPU, by the first call of each kind: a tenth of a
    second that somebody's first step would take longer.
    """
    import torch
    from torch.nn import functional

    rows, channels = 64, 32
    x = torch.ones(rows, channels, device=device, dtype=dtype)
    image = torch.ones(1, channels, 8, 8, device=device, dtype=dtype)
    angles = torch.ones(rows, device=device, dtype=torch.float32)
    with torch.no_grad():
        functional.linear(x, torch.ones(channels, channels, device=device, dtype=dtype), x[0])
        functional.conv2d(image, torch.ones(channels, channels, 3, 3, device=device, dtype=dtype), x[0], padding=1)
        functional.group_norm(image, channels // 2)
        functional.layer_norm(x, (channels,))
        functional.silu(x)
        functional.gelu(x)
        torch.cat([angles.exp().cos(), angles.reciprocal().sin()]).to(dtype)
