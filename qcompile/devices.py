"""The device that a name stands for, and the one that an artifact is loaded to."""

import torch

from qcompile.artifact.manifest import Manifest
from qcompile.errors import MachineError, PlanError


def resolve_device(name: str | None) -> torch.device:
    """The device a name stands for; without a name the first GPU, or the CPU where there is none.

    Raises:
        MachineError: this machine has no such device.
    """
    if name is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise PlanError(f"--device {name}: no device is called that; allowed are cpu, cuda and cuda:N.") from error
    if device.type not in ("cpu", "cuda"):
        raise PlanError(f"--device {name}: qcompile runs on cpu and cuda.")
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type == "cuda" and (device.index or 0) >= count:
        raise MachineError(
            f"--device {name}: this machine has {count} CUDA devices. Use --device cpu, or run where there is one."
        )
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def device_of(manifest: Manifest, device: str | None, compiled: bool) -> torch.device:
    """Where an artifact is loaded to.

    Packages for a GPU that is not there are `on_mismatch`'s to judge, not a missing device.

    Raises:
        PlanError, MachineError: as `resolve_device`.
    """
    made_on = manifest.environment.device
    if device is None and made_on == "cuda" and manifest.packages and compiled and not torch.cuda.is_available():
        return torch.device("cpu")
    return resolve_device(device or made_on)
