"""What a scheme is: one row of data that says how a linear's weight is stored and what it needs to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Scheme:
    """A named quantization of `nn.Linear` weights. All byte and row figures are per layer."""

    name: str
    summary: str
    backend: str
    """Package that does it: `torchao`."""
    config: Callable[[], Any]
    """Makes the backend's configuration object; the backend is imported inside."""
    recognise: Callable[[torch.Tensor], bool]
    """Whether a weight is stored in this scheme; the census after quantizing asks it."""
    bytes_per_weight: int
    """Bytes one weight element takes."""
    bytes_per_output: int
    """Bytes of scales and zero points per output feature."""
    devices: tuple[str, ...] = ("cpu", "cuda")
    """Device types it runs on."""
    min_cuda_capability: tuple[int, int] = (0, 0)
    """Lowest compute capability of a GPU it runs on."""
    min_rows_compiled: dict[str, int] = field(default_factory=dict)
    """Device type to the fewest rows a layer must see once it is compiled."""
    feature_multiple: int = 1
    """In and out features must be multiples of this."""

    def stored_bytes(self, in_features: int, out_features: int) -> int:
        """Bytes that a weight [out_features, in_features] takes when stored."""
        return in_features * out_features * self.bytes_per_weight + out_features * self.bytes_per_output

    def why_not_device(self, device_type: str, capability: tuple[int, int] | None) -> str | None:
        """Say why the scheme can't run on such a device, None where it can.

        Args:
            device_type: `cpu` or `cuda`.
            capability: (major, minor) of the GPU; None on a CPU.
        """
        if device_type not in self.devices:
            return f"{self.name} runs on {' or '.join(self.devices)}, not on {device_type}"
        if device_type == "cuda" and capability is not None and capability < self.min_cuda_capability:
            need, have = (".".join(map(str, pair)) for pair in (self.min_cuda_capability, capability))
            return f"{self.name} needs a GPU of compute capability {need} or higher; this one has {have}"
        return None

    def why_not_layer(
        self, in_features: int, out_features: int, rows: tuple[int, ...], compiled_for: str | None
    ) -> str | None:
        """Say why a linear can't take the scheme, None where it can.

        Args:
            in_features: columns of the weight.
            out_features: rows of the weight.
            rows: rows the layer sees, one number a shape; empty where unknown.
            compiled_for: device type the layer will be compiled for; None where it runs eagerly.
        """
        if in_features % self.feature_multiple or out_features % self.feature_multiple:
            return f"features are not multiples of {self.feature_multiple}"
        fewest = self.min_rows_compiled.get(compiled_for or "", 0)
        if rows and min(rows) < fewest:
            return f"{self.name} compiled for {compiled_for} needs {fewest} rows or more"
        return None
