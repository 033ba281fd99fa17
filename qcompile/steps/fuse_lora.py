"""`fuse_lora`: a LoRA becomes part of the weights, before anything is quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from qcompile.change import Change
from qcompile.errors import PlanError, StepError
from qcompile.steps.step import Phase, PipelineStep, Target, Workshop

if TYPE_CHECKING:
    from torch import nn

ADAPTER = "qcompile"
"""Name under which a LoRA is loaded for as long as it takes to fuse it."""


class FuseLora(PipelineStep):
    """Add a LoRA to the weights of the layers it names, of the denoiser and text encoders alike."""

    kind: ClassVar[str] = "fuse_lora"
    phase: ClassVar[Phase] = Phase.LORA

    path: str = pydantic.Field(min_length=1, description="a .safetensors file, a folder, or a Hub id")
    weight_name: str | None = pydantic.Field(None, description="file inside the folder or Hub repository")
    revision: str | None = pydantic.Field(None, description="commit, branch or tag on the Hub")
    scale: float = pydantic.Field(1.0, description="how much of it is added")

    def changes(self, target: Target) -> tuple[Change, ...]:
        from qcompile.lora import read_lora
        from qcompile.modules import tensor_bytes

        place = target.place(self.kind)
        lora = read_lora(target.pipeline, self.path, self.weight_name, self.revision, place)
        if lora.unfit:
            shown = "; ".join(lora.unfit[:8]) + (f"; and {len(lora.unfit) - 8} more" if len(lora.unfit) > 8 else "")
            raise PlanError(
                f"{place}.path: {self.path} does not fit {type(target.pipeline).__name__}: {len(lora.unfit)} of its "
                f"keys have no place in it: {shown}. Was it trained for another model?"
            )
        if not lora.ranks:
            raise PlanError(f"{place}.path: {self.path} changes no layer. Take the step out.")
        if self.scale == 0:
            raise PlanError(f"{place}.scale: 0 adds nothing. Take the step out.")
        found = []
        for (component, module), rank in lora.ranks.items():
            layer = target.pipeline.components[component].get_submodule(module)
            size = tensor_bytes(layer.weight)
            found.append(
                Change(
                    step=target.index,
                    kind=self.kind,
                    component=component,
                    module=module,
                    action=f"fuse rank {rank}, scale {self.scale:g}",
                    bytes_before=size,
                    bytes_after=size,
                )
            )
        return tuple(found)

    def apply(self, module: Any, changes: tuple[Change, ...], workshop: Workshop) -> None:
        from qcompile.lora import lora_options, traces_of_peft

        components = list(dict.fromkeys(change.component for change in changes))
        options = lora_options(self.path, self.weight_name, self.revision)
        try:
            module.load_lora_weights(**options, adapter_name=ADAPTER)
            _refuse_a_part(module, components, changes)
            module.fuse_lora(components=components, lora_scale=self.scale, safe_fusing=True, adapter_names=[ADAPTER])
            module.unload_lora_weights()
        except ValueError as error:
            raise StepError(f"{self.kind}: {self.path} could not be fused: {error}. Nothing was written.") from error
        for name in components:
            part: nn.Module = getattr(module, name)
            left = traces_of_peft(part)
            if left:
                raise StepError(f"{self.kind}: peft left {', '.join(left[:5])} in {name}. Nothing was written.")
            part.requires_grad_(False)


def _refuse_a_part(pipeline: Any, components: list[str], changes: tuple[Change, ...]) -> None:
    """Diffusers drops keys it has no place for with a warning; each planned layer must carry the adapter now."""
    for name in components:
        model = getattr(pipeline, name)
        carriers = {layer for layer, part in model.named_modules() if ADAPTER in getattr(part, "lora_A", ())}
        missing = [change.module for change in changes if change.component == name and change.module not in carriers]
        if missing:
            raise StepError(
                f"fuse_lora: {len(missing)} planned layers of {name} did not take the adapter: "
                f"{', '.join(missing[:5])}. Nothing was written."
            )
