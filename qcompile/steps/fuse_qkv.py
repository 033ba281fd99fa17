"""`fuse_qkv`: one projection for query, key and value of every attention layer that can."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from qcompile.change import Change
from qcompile.errors import PlanError
from qcompile.steps.step import ComponentStep, Phase, Target

if TYPE_CHECKING:
    from torch import nn

# What diffusers calls a fused projection, and the projections it replaces.
REPLACED = {
    "to_qkv": ("to_q", "to_k", "to_v"),
    "to_kv": ("to_k", "to_v"),
    "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
}


class FuseQkv(ComponentStep):
    """Compute query, key and value by one matrix product instead of three."""

    kind: ClassVar[str] = "fuse_qkv"
    phase: ClassVar[Phase] = Phase.REWRITE

    def changes(self, target: Target) -> tuple[Change, ...]:
        from qcompile.modules import stored_bytes

        if not hasattr(target.module, "fuse_qkv_projections"):
            raise PlanError(
                f"{target.place(self.kind)}: {type(target.module).__name__} has no fuse_qkv_projections(); "
                "diffusers fuses projections of this class not at all. Take the step out."
            )
        found = []
        for name, module in target.module.named_modules():
            if not hasattr(module, "fuse_projections"):
                continue
            why_not = _why_not(target.module, module)
            size = stored_bytes(module)
            found.append(
                Change(
                    step=target.index,
                    kind=self.kind,
                    component=target.component,
                    module=name,
                    action=None if why_not else "fuse q, k, v",
                    reason=why_not,
                    bytes_before=size,
                    bytes_after=size,
                )
            )
        if not any(change.action for change in found):
            raise PlanError(
                f"{target.place(self.kind)}: no attention layer of {target.component} can be fused "
                f"({found[0].reason if found else 'it has none'}). Take the step out."
            )
        return tuple(found)

    def restructure(self, module: nn.Module) -> None:
        from diffusers.models.modeling_utils import no_init_weights

        # Without random numbers for billions of weights that are replaced at once: 0.05 s instead of 0.60 for four
        # projections of FLUX.1-dev on a CPU.
        with no_init_weights():
            module.fuse_qkv_projections()  # type: ignore[operator]
        for layer in module.modules():
            if not getattr(layer, "fused_projections", False):
                continue
            for fused, replaced in REPLACED.items():
                if not hasattr(layer, fused):
                    continue
                # diffusers keeps the old projections so that they can be unfused: twice the weights in memory and on
                # disk.
                for name in replaced:
                    if getattr(layer, name, None) is not None:
                        delattr(layer, name)
        module.requires_grad_(False)


def _why_not(model: nn.Module, layer: nn.Module) -> str | None:
    from diffusers.models.attention import AttentionMixin, AttentionModuleMixin

    if getattr(layer, "fused_projections", False):
        return "already fused"
    if not getattr(layer, "_supports_qkv_fusion", True):
        return f"{type(layer).__name__} has no separate projections"
    if getattr(type(model), "fuse_qkv_projections", None) is AttentionMixin.fuse_qkv_projections:
        # Classes with a method of their own exchange the processor as well; this one fuses the layers it knows and
        # leaves it to their code to look.
        if not isinstance(layer, AttentionModuleMixin):
            return f"diffusers does not fuse a {type(layer).__name__} of {type(model).__name__}"
        if not _looks_for_fused(type(layer.processor).__call__):
            return f"{type(layer.processor).__name__} never uses fused projections"
    return None


def _looks_for_fused(function: Any, depth: int = 2) -> bool:
    """Whether the code of a function, or of functions of its module that it calls, reads a fused projection."""
    if not isinstance(function, FunctionType):
        return False
    names = function.__code__.co_names
    if "fused_projections" in names or "to_qkv" in names:
        return True
    called = [function.__globals__.get(name) for name in names]
    return depth > 0 and any(_looks_for_fused(inner, depth - 1) for inner in called)
