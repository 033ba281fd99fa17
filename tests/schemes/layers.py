"""Layers to quantize, and how far from the original each scheme may get."""

import pytest
import torch
from torch import nn

from qcompile.schemes import SCHEMES, Scheme, Seen, Settings

MAX_ERROR = {
    "int8_dynamic": 0.02,
    "int8_static": 0.03,
    "int8_weight_only": 0.02,
    "int8_dynamic_intx": 0.12,
    "int4_weight_only": 0.12,
    "float8_tensor": 0.06,
    "float8_row": 0.06,
    "float8_weight_only": 0.04,
    "float8_dynamic_int4": 0.12,
    "mxfp8": 0.06,
    "nvfp4": 0.2,
    "nvfp4_weight_only": 0.12,
    "quanto_int8": 0.02,
    "quanto_int4": 0.12,
    "quanto_float8": 0.04,
    "float8_static": 0.06,
    "none": 0.0,
}
"""Relative error of one layer's output for normally distributed inputs and torch's initial weights."""


def plain(in_features: int = 128, out_features: int = 96, dtype: torch.dtype = torch.bfloat16) -> nn.Linear:
    """A linear with seeded weights."""
    torch.manual_seed(0)
    return nn.Linear(in_features, out_features, dtype=dtype).requires_grad_(False)


def quantized(
    name: str,
    in_features: int = 128,
    out_features: int = 96,
    dtype: torch.dtype = torch.bfloat16,
    settings: Settings | None = None,
) -> nn.Linear:
    """The same linear in a scheme, calibrated for inputs of 3 dimensions up to 4."""
    layer = plain(in_features, out_features, dtype)
    SCHEMES[name].quantize(layer, settings, Seen(4.0, 3))
    return layer


def inputs(in_features: int = 128, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """Inputs [1, 64, in]."""
    return torch.randn(1, 64, in_features, generator=torch.Generator().manual_seed(1)).to(dtype)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative error."""
    return float((found - expected).float().norm() / expected.float().norm())


def why_not_made_here(scheme: Scheme) -> str | None:
    """Why weights of a scheme can't even be made on a CPU; some can be made and stored there, but not run."""
    missing = scheme.why_not_machine(scheme.devices[0], None)
    needs_gpu = {"int4_weight_only", "float8_tensor", "float8_row", "nvfp4"}
    return missing or (f"torchao makes {scheme.name} on such a GPU only" if scheme.name in needs_gpu else None)


PARAMETERS = [
    pytest.param(name, marks=pytest.mark.skipif(bool(why), reason=str(why)))
    for name, scheme in SCHEMES.items()
    for why in [why_not_made_here(scheme)]
]
"""Every scheme; those whose weights can't be made here are skipped with the row's own reason."""
HERE = [name for name, scheme in SCHEMES.items() if scheme.why_not_machine("cpu", None) is None]
"""Schemes that run on a CPU."""
