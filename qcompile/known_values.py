"""Values of small tensors on meta, so that pipelines that read some of their own tensors can be run there.

Pipelines read lengths from attention masks, take rows by a boolean mask, or ask whether a mask is all ones. All of
that comes from tokens, which are made on the CPU, and from shapes. `KnownValues` keeps a CPU copy of every tensor on
meta that comes from such values alone, and computes on the copies whatever is computed on the tensors.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from qcompile.errors import PlanError

MAX_ELEMENTS = 1 << 17
"""Tensors with more elements are not followed: masks and ids are small, latents and tables of positions are not."""
META = torch.device("meta")
# Their values are random or undefined, so nothing is known of the results.
_UNKNOWN = ("rand", "normal", "uniform", "bernoulli", "multinomial", "exponential", "dropout", "empty", "new_empty")
_INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)


class KnownValues(TorchFunctionMode):
    """While active, calls on meta tensors whose values are known give results whose values are known too.

    A call that needs a value which is not known raises PlanError.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        found = list(_leaves((*args, *named.values())))
        if not any(_is_meta(leaf) for leaf in found):
            return func(*args, **named)
        tensors = [leaf for leaf in found if isinstance(leaf, torch.Tensor)]
        name = getattr(func, "__name__", "")
        follow = not name.startswith(_UNKNOWN) and all(self._value(tensor) is not None for tensor in tensors)
        if func in _INDEXING and not follow:
            args = (args[0], self._indices(args[1]), *args[2:])
        try:
            result = func(*args, **named)
        except (NotImplementedError, RuntimeError) as error:
            if not follow:
                raise _explained(name, error) from error
            return self._on_meta(self._computed(func, args, named), stays=name == "cpu" or _goes_to_cpu(found))
        changes = bool(tensors) and _is_in_place(name, named)
        if changes and not follow:
            self._forget(tensors[0])
        made = _tensors(result)
        if follow and (made or changes) and all(tensor.numel() <= MAX_ELEMENTS for tensor in made):
            self._remember(made, _tensors(self._computed(func, args, named)), tensors)
        return result

    def _value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        if tensor.device.type != "meta":
            return tensor if tensor.numel() <= MAX_ELEMENTS else None
        known: torch.Tensor | None = self._known.get(tensor)
        return known

    def _computed(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        def on_cpu(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor):
                return self._value(leaf)
            return type(leaf)("cpu") if isinstance(leaf, str | torch.device) and _is_meta(leaf) else leaf

        return func(*_map(on_cpu, args), **_map(on_cpu, kwargs))

    def _on_meta(self, value: Any, stays: bool) -> Any:
        """What a call on the copies gave, with tensors on meta unless the call was to take them off it."""
        if stays:
            return _map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, value)

        def to_meta(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor):
                return leaf
            moved = leaf.to(META)
            self._known[moved] = leaf
            return moved

        return _map(to_meta, value)

    def _remember(self, made: list[torch.Tensor], values: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
        # What came from a CPU tensor may be that tensor, which its owner may write to afterwards. What came from copies
        # stays as it is: a view of a copy must remain one.
        own = any(source.device.type != "meta" for source in sources)
        for tensor, value in zip(made, values, strict=True):
            if tensor.device.type == "meta":
                self._known[tensor] = value.clone() if own else value

    def _indices(self, index: Any) -> Any:
        """An index with known masks as positions: how many there are gives the result its shape."""

        def positions(leaf: Any) -> tuple[Any, ...]:
            if isinstance(leaf, torch.Tensor) and leaf.dtype is torch.bool and leaf.device.type == "meta":
                known = self._value(leaf)
                if known is not None:
                    return tuple(found.to(META) for found in known.nonzero(as_tuple=True))
            return (leaf,)

        if isinstance(index, tuple):
            return tuple(part for leaf in index for part in positions(leaf))
        found = positions(index)
        return found if len(found) > 1 else found[0]

    def _forget(self, changed: torch.Tensor) -> None:
        """Drop what is known of a tensor that was overwritten, and of all its views."""
        known = self._known.get(changed)
        if known is None:
            return
        storage = known.untyped_storage().data_ptr()
        for tensor in [key for key, value in self._known.items() if value.untyped_storage().data_ptr() == storage]:
            del self._known[tensor]


def _is_meta(leaf: Any) -> bool:
    if isinstance(leaf, torch.Tensor):
        return leaf.device.type == "meta"
    return (isinstance(leaf, torch.device) and leaf.type == "meta") or (isinstance(leaf, str) and leaf == "meta")


def _is_in_place(name: str, kwargs: Mapping[str, Any]) -> bool:
    if name.endswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name not in ("__invert__", "__index__", "__int__"))
    return name.endswith("_") or kwargs.get("out") is not None


def _goes_to_cpu(leaves: Iterable[Any]) -> bool:
    return any(
        (isinstance(leaf, torch.device) and leaf.type == "cpu") or (isinstance(leaf, str) and leaf == "cpu")
        for leaf in leaves
    )


def _explained(name: str, error: Exception) -> Exception:
    text = str(error)
    if "meta" not in text:
        return error
    return PlanError(
        f"the pipeline reads values in {name} before the denoiser's first call, and they depend on weights, which "
        f"planning does without ({text.splitlines()[0]})."
    )


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in _leaves(value) if isinstance(leaf, torch.Tensor)]


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    else:
        yield value


def _map(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list | tuple):
        inner = [_map(change, part) for part in value]
        return type(value)(*inner) if hasattr(value, "_fields") else type(value)(inner)
    if isinstance(value, dict):
        return {name: _map(change, part) for name, part in value.items()}
    return change(value)
