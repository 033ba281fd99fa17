"""`attention`: which of diffusers' attention implementations a component uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from qcompile.change import Change
from qcompile.errors import MachineError, PlanError, nearest
from qcompile.steps.step import ComponentStep, Phase, Target

if TYPE_CHECKING:
    from torch import nn

SHORT = {"cudnn": "_native_cudnn", "efficient": "_native_efficient", "math": "_native_math"}
"""Names of ours for torch's own implementations, which diffusers marks as private."""
FROM_HUB = "_hub"
"""How the names of implementations end whose kernels diffusers downloads from the Hub, and runs."""
NEED_CUDA = ("flash", "sage", "cudnn", "xformers", "aiter", "_3")
"""Parts of the names of implementations that exist for CUDA devices only."""


class Attention(ComponentStep):
    """Choose the implementation of attention, one of diffusers' attention backends."""

    kind: ClassVar[str] = "attention"
    phase: ClassVar[Phase] = Phase.REWRITE

    backend: str = pydantic.Field(
        min_length=1, description="native, cudnn, efficient, math, flash, sage, xformers, … as diffusers names them"
    )

    def changes(self, target: Target) -> tuple[Change, ...]:
        place = f"{target.place(self.kind)}.backend"
        self._refuse_unavailable(target.device_type, place)
        found = tuple(
            Change(step=target.index, kind=self.kind, component=target.component, module=name, action=self.backend)
            for name in _layers(target.module)
        )
        if not found:
            raise PlanError(
                f"{place}: no attention layer of {target.component} ({type(target.module).__name__}) lets its "
                "implementation be chosen; diffusers runs torch's own there. Take the step out."
            )
        return found

    def restructure(self, module: nn.Module) -> None:
        from diffusers import __version__
        from diffusers.models.attention_dispatch import AttentionBackendName

        if self._name() not in {member.value for member in AttentionBackendName}:
            # No plan comes before an artifact is loaded, and it may have been made with another version.
            raise MachineError(
                f"attention.backend: diffusers {__version__} has no attention backend {self.backend!r}. Install a "
                "version that has, or apply the recipe here with another backend: native is always there."
            )
        # Not model.set_attention_backend: it also changes the default of the whole process.
        for layer in _layers(module).values():
            layer.processor._attention_backend = AttentionBackendName(self._name())

    def _name(self) -> str:
        return SHORT.get(self.backend, self.backend)

    def _refuse_unavailable(self, device_type: str, place: str) -> None:
        from diffusers.models import attention_dispatch

        known = [member.value for member in attention_dispatch.AttentionBackendName]
        if self._name() not in known:
            shown = [name for name in (*known, *SHORT) if not name.startswith("_") and not name.endswith(FROM_HUB)]
            raise PlanError(
                f"{place}: diffusers has no attention backend {self.backend!r}; {nearest(self.backend, shown)}."
            )
        if self._name().endswith(FROM_HUB):
            local = self.backend.removesuffix(FROM_HUB)
            instead = f"{local} (its package has to be installed) or native" if local in known else "native"
            raise PlanError(
                f"{place}: {self.backend} is a kernel that has to be downloaded from the Hub, which qcompile does not: "
                f"artifacts run the code they hold and what is installed. Use {instead}."
            )
        if device_type != "cuda" and any(part in self._name() for part in NEED_CUDA):
            raise PlanError(f"{place}: {self.backend} runs on CUDA devices, not on {device_type}. Use native there.")
        try:
            attention_dispatch._check_attention_backend_requirements(
                attention_dispatch.AttentionBackendName(self._name())
            )
        except RuntimeError as error:
            raise PlanError(
                f"{place}: {self.backend} is not available here: {error} Use native, or install it."
            ) from error


def _layers(module: nn.Module) -> dict[str, Any]:
    """Attention layers whose processor asks diffusers for an implementation, by dotted name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if hasattr(getattr(layer, "processor", None), "_attention_backend")
    }
