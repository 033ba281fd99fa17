"""What is known of one compiled package, as plain data: written by the compiler, kept by the manifest."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a call. `stride` is in elements."""

    path: str
    """Parameter name, then keys and indices: `image_rotary_emb.0`."""
    dtype: str
    """torch's name without `torch.`: `bfloat16`."""
    shape: tuple[int, ...]
    """Elements along each dimension."""
    stride: tuple[int, ...]
    """Elements from one index to the next along each dimension."""

    def __str__(self) -> str:
        return f"{list(self.shape)} {self.dtype}"


@dataclass(frozen=True)
class CallSpec:
    """What a module is called with: tensors by shape and dtype, plain values by value, all on one device type."""

    device_type: str
    """`cpu` or `cuda`."""
    tensors: tuple[TensorSpec, ...]
    """Every tensor of the call, in the order it is passed."""
    values: tuple[tuple[str, str], ...] = ()
    """(path, repr) of every argument that is no tensor."""

    def key(self) -> tuple[Any, ...]:
        """Identity of the call, without strides: dispatch brings a call to the layout its code was compiled for."""
        entries = [(spec.path, spec.dtype, spec.shape) for spec in self.tensors]
        return (self.device_type, tuple(sorted(entries)), tuple(sorted(self.values)))

    def difference(self, other: "CallSpec") -> list[str]:
        """Say what `other` has that differs from this spec, one phrase a path."""
        mine = {spec.path: str(spec) for spec in self.tensors} | dict(self.values)
        theirs = {spec.path: str(spec) for spec in other.tensors} | dict(other.values)
        phrases = [
            f"{path} is {theirs.get(path, 'not given')} (built for {mine.get(path, 'a call without it')})"
            for path in sorted(mine.keys() | theirs.keys())
            if mine.get(path) != theirs.get(path)
        ]
        if self.device_type != other.device_type:
            phrases.insert(0, f"tensors are on {other.device_type} (built for {self.device_type})")
        return phrases


@dataclass(frozen=True)
class LiftedInput:
    """One input of compiled code.

    `name` is a parameter or buffer by dotted name inside the module, and `part` counts the plain tensors it is stored
    as; for an argument of the call, `name` is its path and `part` is None.
    """

    name: str
    """Dotted name of a parameter or buffer inside the module, or the path of an argument."""
    part: int | None
    """Which of the plain tensors it is stored as, from 0; None for an argument."""
    dtype: str
    """torch's name without `torch.`: `int8`."""
    shape: tuple[int, ...]
    """Elements along each dimension."""
    stride: tuple[int, ...]
    """Elements from one index to the next along each dimension."""


@dataclass(frozen=True)
class Package:
    """One `.pt2` file: code for all `layers`, which differ in nothing but their tensors, for one call spec."""

    component: str
    """The component it belongs to."""
    file: str
    """Path inside the artifact, with forward slashes."""
    block: str
    """Class of the module it was compiled from."""
    layers: tuple[str, ...]
    """Dotted names of the modules that run it; the component itself is the empty name."""
    shapes: tuple[str, ...]
    """Labels of the declared shapes that lead to this call."""
    call: CallSpec
    """What the block is called with."""
    inputs: tuple[LiftedInput, ...]
    """What the code takes, in order."""
    output: Any
    """How outputs are put together: an index for a tensor, `{"tuple": [...]}`, `{"list": [...]}`, None."""
    inductor: dict[str, Any]
    """Compiler options other than the defaults."""
    relative_errors: dict[str, float]
    """Layer name to ‖compiled − eager‖ / ‖eager‖ on captured inputs, for the layers compared."""
    build_seconds: float
    """Time that export and compilation took."""
