"""Installing packages on a component: each compiled module runs the one that fits its call, or says which calls fit."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import nn

from qcompile.aot.bind import Binding
from qcompile.aot.callspec import Signature, call_key, leaves, spec_of
from qcompile.aot.runtime import LoadedPackage
from qcompile.errors import CallError
from qcompile.package import CallSpec

OnUnknownShape = Literal["error", "eager"]


class CompiledForward:
    """Stands in for the forward of one module."""

    def __init__(
        self, module: nn.Module, name: str, bindings: Mapping[CallSpec, Binding], on_unknown_shape: OnUnknownShape
    ) -> None:
        self._module = module
        self._name = name
        self._signature = Signature(module)
        self._bindings = {spec.key(): binding for spec, binding in bindings.items()}
        self._specs = list(bindings)
        self._eager_allowed = on_unknown_shape == "eager"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arguments = self._signature.name(args, kwargs)
        found = leaves(arguments)
        binding = self._bindings.get(call_key(found))
        if binding is not None:
            return binding.run(found)
        if self._eager_allowed:
            return type(self._module).forward(self._module, *args, **kwargs)
        raise CallError(
            f"{self._name}: no package fits this call: {'; '.join(_closest(self._specs, spec_of(arguments)))}"
        )

    def package_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LoadedPackage:
        """The package that runs such a call.

        Raises:
            KeyError: none does.
        """
        return self._bindings[call_key(leaves(self._signature.name(args, kwargs)))].loaded


class ShapeGuard:
    """Refuses calls of a component before any of it runs, in words a caller of the pipeline can act on."""

    def __init__(self, module: nn.Module, component: str, calls: Mapping[str, CallSpec]) -> None:
        """`calls` are the component's call specs by shape label."""
        self._signature = Signature(module)
        self._component = component
        self._calls = dict(calls)
        self._keys = {_tensors_only(spec).key() for spec in calls.values()}

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = leaves(self._signature.name(args, kwargs))
        tensors = {path: leaf for path, leaf in found.items() if isinstance(leaf, torch.Tensor)}
        if call_key(tensors) in self._keys:
            return
        specs = [_tensors_only(spec) for spec in self._calls.values()]
        raise CallError(
            f"{self._component}: no package was built for this call: {'; '.join(_closest(specs, spec_of(tensors)))}. "
            f"Shapes with packages: {', '.join(self._calls)}. Call the pipeline with one of them, add this one to the "
            'recipe\'s shapes and apply again, or load with on_unknown_shape="eager".'
        )


def install(
    component: str,
    module: nn.Module,
    loaded: list[LoadedPackage],
    calls: Mapping[str, CallSpec] | None,
    on_unknown_shape: OnUnknownShape = "error",
) -> Callable[[], None]:
    """Make the layers of `module` run their packages.

    Args:
        component: name for messages.
        module: the component.
        loaded: packages of this component.
        calls: the component's own call specs by shape label; None where only its layers check their calls.
        on_unknown_shape: what a call without a package does.

    Returns:
        A function that takes everything off again.

    Raises:
        CallError: a layer's weights are not those the package was built for.
    """
    layers = dict(module.named_modules())
    names = dict.fromkeys(name for package in loaded for name in package.package.layers)
    for name in names:
        layer = layers[name]
        bindings = {item.package.call: Binding(layer, item) for item in loaded if name in item.package.layers}
        forward = CompiledForward(layer, f"{component}.{name}".rstrip("."), bindings, on_unknown_shape)
        layer.forward = forward  # type: ignore[method-assign]
    guard = None
    if on_unknown_shape == "error" and calls is not None:
        guard = module.register_forward_pre_hook(ShapeGuard(module, component, calls), with_kwargs=True)

    def remove() -> None:
        for name in names:
            # The instance attribute hid the class's forward; without it the module is what it was.
            layers[name].__dict__.pop("forward", None)
        if guard is not None:
            guard.remove()

    return remove


def _tensors_only(spec: CallSpec) -> CallSpec:
    """Blocks check plain values themselves; the code around them runs eagerly and may take any."""
    return CallSpec(spec.device_type, spec.tensors)


def _closest(specs: list[CallSpec], call: CallSpec) -> list[str]:
    """What the call has that differs from the spec it differs from least."""
    return min((spec.difference(call) for spec in specs), key=len)
