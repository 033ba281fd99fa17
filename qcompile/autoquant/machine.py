"""What latencies depend on besides the layer, as one line of text: the cache's key, and a recipe's comment."""

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qcompile.aot.options import BASE
from qcompile.environment import current
from qcompile.version import __version__


def describe(device: torch.device, options: Mapping[str, Any] = BASE) -> str:
    """Device, versions and compiler options.

    Args:
        device: where layers are measured.
        options: what they are compiled with, other than inductor's defaults.
    """
    here = current(str(device))
    if device.type == "cuda":
        parts = [f"{here.gpu} (compute capability {here.capability})"]
    else:
        parts = [f"{_processor()}, {torch.get_num_threads()} threads"]
    versions = {
        "qcompile": __version__,
        "torch": here.torch,
        "torchao": here.torchao,
        "optimum-quanto": _version("optimum-quanto"),
        "triton": here.triton,
        "CUDA": here.cuda,
    }
    parts += [f"{name} {version}" for name, version in versions.items() if version]
    parts += [f"{name}={value!r}" for name, value in sorted(options.items())]
    return ", ".join(parts)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
