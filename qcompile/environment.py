"""What machine and versions are here, and whether packages built elsewhere can run on them."""

import importlib.metadata
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

COMPARED = ("torch", "torchao", "diffusers", "machine", "system", "device")
"""Fields that must be equal for packages of every device."""
COMPARED_ON_GPU = ("triton", "cuda", "capability")
"""Fields that must be equal too for packages of a GPU."""

# Instruction sets that a compiler's -march=native may use; a package built with one can't run without it.
_ISA_PREFIXES = (
    "sse",
    "ssse",
    "avx",
    "amx",
    "fma",
    "bmi",
    "f16c",
    "gfni",
    "vaes",
    "vpclmul",
    "sha",
    "adx",
    "movbe",
    "popcnt",
)
_ISA_NAMES = {"aes", "pclmulqdq", "abm", "lzcnt", "sve", "sve2", "asimd", "bf16", "i8mm", "asimdhp", "asimddp"}


@dataclass(frozen=True)
class Environment:
    """One machine with its versions, as recorded in a manifest."""

    python: str
    """Version of Python."""
    torch: str
    """Version of torch, with its build suffix."""
    torchao: str
    """Version of torchao, or `none`."""
    diffusers: str
    """Version of diffusers."""
    triton: str | None
    """Version of triton; None where it is not installed."""
    cuda: str | None
    """CUDA version torch was built for; None on a CPU build."""
    system: str
    """Operating system: `Linux`."""
    machine: str
    """Processor architecture: `x86_64`, `aarch64`."""
    device: str
    """Device type the artifact was made on: `cpu` or `cuda`."""
    gpu: str | None
    """Name of that GPU; None on a CPU."""
    capability: str | None
    """Compute capability of that GPU, such as `9.0`."""
    cpu_isa: tuple[str, ...]
    """Instruction set extensions of the processor, sorted."""


@dataclass(frozen=True)
class Rejection:
    """One field in which two environments differ so that packages of one can't run in the other."""

    field: str
    recorded: str
    here: str


@lru_cache
def current(device: str) -> Environment:
    """The environment of this process.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
    """
    import torch

    on_gpu = device.startswith("cuda")
    capability = torch.cuda.get_device_capability(device) if on_gpu else None
    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        torchao=_version("torchao") or "none",
        diffusers=_version("diffusers") or "none",
        triton=_version("triton"),
        cuda=torch.version.cuda,
        system=platform.system(),
        machine=platform.machine(),
        device="cuda" if on_gpu else "cpu",
        gpu=torch.cuda.get_device_name(device) if on_gpu else None,
        capability=".".join(map(str, capability)) if capability else None,
        cpu_isa=_cpu_isa(),
    )


def rejections(recorded: Environment, here: Environment) -> tuple[Rejection, ...]:
    """Why packages built in `recorded` can't run in `here`; empty where they can.

    diffusers is compared exactly, since the code around compiled blocks is its own.
    """
    fields = COMPARED + (COMPARED_ON_GPU if recorded.device == "cuda" else ())
    found = [
        Rejection(field, str(getattr(recorded, field)), str(getattr(here, field)))
        for field in fields
        if getattr(recorded, field) != getattr(here, field)
    ]
    missing = [name for name in recorded.cpu_isa if name not in here.cpu_isa]
    if missing and recorded.machine == here.machine:
        found.append(Rejection("cpu_isa", " ".join(missing), "a processor without them"))
    return tuple(found)


def processor() -> str | None:
    """The processor's name as the system tells it; None where it does not."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")), None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_isa() -> tuple[str, ...]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    flags = next(
        (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))), []
    )
    return tuple(sorted({flag for flag in flags if flag.startswith(_ISA_PREFIXES) or flag in _ISA_NAMES}))
