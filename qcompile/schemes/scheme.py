"""What a scheme is: one row of data that says how a linear's weight is stored and what it needs to run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Settings:
    """What a recipe may choose about a scheme; None stands for the scheme's default."""

    group_size: int | None = None
    """Weights of one row that share a scale."""
    weight_bits: int | None = None
    """Bits a weight is rounded to."""


@dataclass(frozen=True)
class Seen:
    """What calibration saw of a linear's inputs."""

    peak: float
    """Largest magnitude."""
    dims: int
    """Dimensions of the input tensor."""


@dataclass(frozen=True)
class Scheme:
    """A named quantization of `nn.Linear` weights. All byte and row figures are per layer."""

    name: str
    summary: str
    backend: str
    """Who makes the weights: `torchao`, `quanto`, `qcompile`."""
    weight: Callable[[nn.Linear, Settings, Seen | None], torch.Tensor]
    """Makes the quantized weight of a linear from filled-in settings; the backend is imported inside."""
    recognise: Callable[[torch.Tensor], bool]
    """Whether a weight is stored in this scheme; the census after quantizing asks it."""
    count_bytes: Callable[[int, int, int, Settings], int]
    """Bytes of a stored weight from in and out features, bytes of one element before, and filled-in settings."""
    devices: tuple[str, ...] = ("cpu", "cuda")
    """Device types it runs on."""
    min_cuda_capability: tuple[int, int] = (0, 0)
    """Lowest compute capability of a GPU it runs on."""
    packages: tuple[str, ...] = ("torchao",)
    """Modules that must be importable."""
    dtypes: tuple[str, ...] = ()
    """Dtypes of the weights it takes; empty for every float."""
    min_rows_compiled: dict[str, int] = field(default_factory=dict)
    """Device type to the fewest rows a layer must see once it is compiled."""
    feature_multiple: int = 1
    """In and out features must be multiples of this."""
    slow_unless_searched: tuple[tuple[int, int], ...] = ()
    """Compute capabilities of GPUs where the layer is slower than a plain one unless the compiler searches kernels."""
    slow_up_to_features: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """Compute capability of a GPU to the in or out features up to which the layer was slower than a plain one wherever
    it was measured, with kernels that were searched for."""
    group_sizes: tuple[int, ...] = ()
    """Group sizes a recipe may choose, the default first; empty where there is nothing to choose."""
    weight_bits: tuple[int, ...] = ()
    """Bits a recipe may choose, the default first; empty where there is nothing to choose."""
    calibrated: bool = False
    """Whether the scale of the inputs is fixed beforehand, from captured calls."""
    legacy: bool = False
    """Whether newer rows do the same better."""
    tried: bool = True
    """Whether it was ever run; False where no such GPU or package was at hand."""
    why_not_jit: str | None = None
    """Why `torch.compile` can't be used; None where it can."""
    why_not_aot: str | None = None
    """Why the layers can't be compiled ahead of time; None where they can."""
    why_not_saved: str | None = None
    """Why weights can't be stored in an artifact; None where they can."""

    def filled(self, settings: Settings) -> Settings:
        """Settings with this scheme's defaults in the place of None."""
        return Settings(
            settings.group_size or next(iter(self.group_sizes), None),
            settings.weight_bits or next(iter(self.weight_bits), None),
        )

    def quantize(self, layer: nn.Linear, settings: Settings | None = None, seen: Seen | None = None) -> None:
        """Exchange the weight of `layer`.

        Args:
            layer: on the device it will run on.
            settings: what the recipe chose.
            seen: what calibration saw; needed where the scheme is `calibrated`.
        """
        from torch import nn

        weight = self.weight(layer, self.filled(settings or Settings()), seen)
        if weight is not layer.weight:
            layer.weight = nn.Parameter(weight, requires_grad=False)

    def stored_bytes(
        self, in_features: int, out_features: int, element_bytes: int = 2, settings: Settings | None = None
    ) -> int:
        """Bytes that a weight [out_features, in_features] takes when stored; `element_bytes` of one before."""
        return self.count_bytes(in_features, out_features, element_bytes, self.filled(settings or Settings()))

    def why_not_settings(self, settings: Settings) -> tuple[str, str] | None:
        """The first option that the scheme does not take, and what it allows; None where all is well."""
        for option, allowed in (("group_size", self.group_sizes), ("weight_bits", self.weight_bits)):
            chosen = getattr(settings, option)
            if chosen is not None and chosen not in allowed:
                values = f"allowed are {', '.join(map(str, sorted(allowed)))}" if allowed else f"it has no {option}"
                return option, f"{self.name} can't take {chosen}: {values}"
        return None

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

    def why_not_machine(self, device_type: str, capability: tuple[int, int] | None) -> str | None:
        """As `why_not_device`, and whether the packages it needs are installed here."""
        return self.why_not_device(device_type, capability) or self._why_not_packages()

    def _why_not_packages(self) -> str | None:
        for package in self.packages:
            # A dotted name is looked up inside its parent, which may be missing itself.
            parts = package.split(".")
            names = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
            if any(importlib.util.find_spec(name) is None for name in names):
                known = {"optimum.quanto": "optimum-quanto"}.get(package, package)
                return f"{self.name} needs the package {known}, which is not installed: pip install {known}"
        return None

    def why_not_layer(
        self,
        in_features: int,
        out_features: int,
        rows: tuple[int, ...],
        compiled_for: str | None,
        dtype: str | None = None,
        settings: Settings | None = None,
    ) -> str | None:
        """Say why a linear can't take the scheme, None where it can.

        Args:
            in_features: columns of the weight.
            out_features: rows of the weight.
            rows: rows the layer sees, one number a shape; empty where unknown.
            compiled_for: device type the layer will be compiled for; None where it runs eagerly.
            dtype: of the weight, `bfloat16`; None where it does not matter yet.
            settings: what the recipe chose.
        """
        if in_features % self.feature_multiple or out_features % self.feature_multiple:
            return f"features are not multiples of {self.feature_multiple}"
        group = self.filled(settings or Settings()).group_size
        if group and in_features % group:
            fits = max((size for size in self.group_sizes if in_features % size == 0), default=None)
            return f"in features are not a multiple of the group size {group}" + (
                f" (group_size: {fits} would do)" if fits else ""
            )
        if dtype is not None and self.dtypes and dtype not in self.dtypes:
            return f"{self.name} takes weights of {' or '.join(self.dtypes)}, not of {dtype}"
        fewest = self.min_rows_compiled.get(compiled_for or "", 0)
        if rows and min(rows) < fewest:
            return f"{self.name} compiled for {compiled_for} needs {fewest} rows or more"
        return None
