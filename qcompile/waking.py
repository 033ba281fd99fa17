"""A GPU's driver gets ready while libraries are imported, which need only the interpreter."""

import ctypes

DRIVER = "libcuda.so.1"


def wake(device: str) -> None:
    """Have the driver make its context on a GPU, if `device` is one, so that torch finds it there.

    torch asks for it late and holds the interpreter's lock meanwhile; ctypes lets go of it. The context is the one of
    the whole process, which any library gets, and what fails here torch will be told too, and say.

    Args:
        device: `cpu`, `cuda` or `cuda:N`; anything else is for others to refuse.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        return
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(handle), int(number or 0)) == 0:
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle)
