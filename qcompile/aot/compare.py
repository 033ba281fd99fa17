"""How far one output is from another."""

from typing import Any

import torch


def relative_error(value: Any, reference: Any) -> float:
    """‖value − reference‖ / ‖reference‖ in float64, the largest over the tensors of two outputs of the same structure.

    NaN where either has a value that is not finite, so that no bound holds.
    """
    pairs = list(zip(_tensors(value), _tensors(reference), strict=True))
    errors = [_error(mine.double(), theirs.double()) for mine, theirs in pairs]
    return float("nan") if any(error != error for error in errors) else max(errors, default=0.0)


def _error(value: torch.Tensor, reference: torch.Tensor) -> float:
    if value.shape != reference.shape or not (value.isfinite().all() and reference.isfinite().all()):
        return float("nan")
    norm = reference.norm().item()
    return float((value - reference).norm().item() / (norm or 1.0))


def _tensors(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, dict):
        return [tensor for inner in output.values() for tensor in _tensors(inner)]
    if isinstance(output, list | tuple):
        return [tensor for inner in output for tensor in _tensors(inner)]
    return []
