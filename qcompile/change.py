"""What a recipe does to one module, or why it leaves it alone. Plan, runner and manifest all speak in these."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One module of one step of a plan.

    Exactly one of `action` and `reason` is set. Byte counts are those of the module's stored tensors (parameters and
    persistent buffers) that the step touches.
    """

    step: int
    """Index of the step in the recipe, from 0."""
    kind: str
    """The step's name: `quantize`, `compile`, …"""
    component: str
    """The component that the module belongs to."""
    module: str
    """Dotted name inside the component; empty for the component itself."""
    action: str | None
    """What happens, for example `int8_dynamic`."""
    reason: str | None = None
    """Why nothing happens."""
    rows: tuple[int, ...] = ()
    """Rows the layer sees in one call, one number a declared shape; empty where nothing could be observed."""
    features: tuple[int, int] | None = None
    """(in, out) of a linear or convolution."""
    bytes_before: int = 0
    """Stored bytes of these tensors before the step."""
    bytes_after: int = 0
    """Stored bytes of these tensors after the step, as planned."""
