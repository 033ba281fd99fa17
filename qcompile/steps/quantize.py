"""`quantize`: the weights of chosen linears become a scheme of the table `qcompile.schemes.SCHEMES`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import pydantic

from qcompile.change import Change
from qcompile.errors import PlanError, StepError, nearest
from qcompile.schemes import SCHEMES, Scheme, Settings
from qcompile.selectors import BY_GLOB, Candidate, Layers, select
from qcompile.steps.autoquant import AUTOQUANT, Autoquant
from qcompile.steps.calibration import inputs_of
from qcompile.steps.step import ComponentStep, Phase, Target, Workshop

if TYPE_CHECKING:
    import torch
    from torch import nn


class Quantize(ComponentStep):
    """Store the weights of the chosen linears in a quantized scheme.

    With no `layers` it takes the linears inside repeated blocks, without norm, modulation and embedding layers and
    without those that the model's class keeps in high precision.
    """

    kind: ClassVar[str] = "quantize"
    phase: ClassVar[Phase] = Phase.QUANTIZE

    scheme: str = pydantic.Field(
        description="name of a quantization scheme, or autoquant to have it measured",
        json_schema_extra={"enum": [*sorted((*SCHEMES, AUTOQUANT))]},
    )
    layers: Layers | None = pydantic.Field(None, description="which linears; left out: the blocks' attention and MLP")
    group_size: int | None = pydantic.Field(
        None, ge=1, description="weights of one row that share a scale, where the scheme lets choose"
    )
    weight_bits: int | None = pydantic.Field(
        None, ge=1, description="bits a weight is rounded to, where the scheme lets choose"
    )
    autoquant: Autoquant | None = pydantic.Field(None, description="options of scheme: autoquant")

    @pydantic.field_validator("scheme")
    @classmethod
    def _scheme_exists(cls, name: str) -> str:
        if name not in SCHEMES and name != AUTOQUANT:
            raise ValueError(f"no scheme is called {name!r}; {nearest(name, (*SCHEMES, AUTOQUANT))}")
        return name

    @property
    def settings(self) -> Settings:
        """What this step chooses about its scheme."""
        return Settings(self.group_size, self.weight_bits)

    @pydantic.model_validator(mode="after")
    def _options_fit_the_scheme(self) -> Quantize:
        if self.autoquant is not None and self.scheme != AUTOQUANT:
            raise ValueError(f"the block autoquant goes with scheme: autoquant, not with {self.scheme}")
        if self.scheme == AUTOQUANT:
            for option in ("group_size", "weight_bits"):
                if getattr(self, option) is not None:
                    raise ValueError(
                        f"autoquant measures schemes at their defaults, so {option} would change nothing; take it out, "
                        "or name a scheme"
                    )
        return self

    def changes(self, target: Target) -> tuple[Change, ...]:
        if self.scheme == AUTOQUANT:
            raise PlanError(
                f"{target.place(self.kind)}.scheme: autoquant is decided by measuring real layers on the device, and a "
                "plan touches no weights. `qcompile plan --resolve RECIPE` measures and prints the explicit recipe; "
                "`qcompile apply` measures by itself and goes on with it."
            )
        return self.chosen(target)

    def chosen(self, target: Target) -> tuple[Change, ...]:
        """Say which linears the step takes; with `scheme: autoquant` those among which it may choose."""
        from qcompile.modules import linears

        # Without a row there is nothing yet that a layer could be unfit for.
        scheme, place = SCHEMES.get(self.scheme), target.place(self.kind)
        if scheme is not None:
            self._check(scheme, target)
        layers = linears(target.module)
        rows = target.rows()
        if self.layers is not None:
            candidates = {
                name: Candidate("linear", layer.in_features, layer.out_features, rows=rows.get(name, ()))
                for name, layer in layers.items()
            }
            names = [name for name, _ in target.module.named_modules()]
            reasons = select(self.layers, candidates, lambda: names, f"{place}.layers")
        else:
            reasons = _default_reasons(target, layers, f"{place}.layers")
        compiled_for = target.device_type if target.compiled else None
        taken = {change.module: change for change in target.earlier if change.kind == self.kind and change.action}
        found = []
        for name, layer in layers.items():
            seen = rows.get(name, ())
            reason = reasons[name]
            if name in taken:
                found.append(self._taken(target, taken[name], reason is None and self.layers is not None))
                continue
            if reason is None and scheme is not None:
                unfit = scheme.why_not_layer(
                    layer.in_features,
                    layer.out_features,
                    seen,
                    compiled_for,
                    str(layer.weight.dtype).removeprefix("torch."),
                    self.settings,
                )
                if scheme.calibrated and not seen:
                    unfit = f"{scheme.name} is calibrated, and no captured call reaches the layer"
                if unfit and self.layers is not None:
                    raise PlanError(_unfit(place, name, layer, seen, unfit))
                reason = unfit
            found.append(self._change(target, name, layer, seen, reason))
        if not found:
            raise PlanError(f"{place}: {target.component} has no linear at all.")
        if not any(change.action for change in found):
            # What the globs take in says more than what they leave out.
            example = next((change for change in found if not (change.reason or "").startswith(BY_GLOB)), found[0])
            raise PlanError(
                f"{place}: no linear of {target.component} is left to quantize; of {len(found)} linears one, "
                f"{example.module!r}, is left alone because: {example.reason}."
            )
        return tuple(found)

    def _check(self, scheme: Scheme, target: Target) -> None:
        place = target.place(self.kind)
        refused = scheme.why_not_settings(self.settings)
        if refused:
            option, why_not = refused
            raise PlanError(f"{place}.{option}: {why_not}. Leave it out for the default.")
        if scheme.why_not_saved:
            raise PlanError(f"{place}.scheme: weights of {scheme.name} can't be stored: {scheme.why_not_saved}.")
        if scheme.calibrated and not target.is_denoiser:
            raise PlanError(
                f"{place}.scheme: {scheme.name} is calibrated on the denoiser's captured calls; {target.component} has "
                "none. Choose a dynamic or weight-only scheme."
            )

    def _taken(self, target: Target, before: Change, selected: bool) -> Change:
        if selected:
            raise PlanError(
                f"{target.place(self.kind)}.layers: {before.module} is quantized by steps.{before.step} already "
                f"({before.action}). Exclude it from one of the two."
            )
        reason = f"quantized by steps.{before.step}"
        return replace(before, step=target.index, action=None, reason=reason, bytes_before=before.bytes_after)

    def _change(self, target: Target, name: str, layer: nn.Linear, rows: tuple[int, ...], reason: str | None) -> Change:
        from qcompile.modules import tensor_bytes

        before, scheme = tensor_bytes(layer.weight), SCHEMES.get(self.scheme)
        after = before
        if reason is None and scheme is not None:
            after = scheme.stored_bytes(
                layer.in_features, layer.out_features, layer.weight.element_size(), self.settings
            )
        return Change(
            step=target.index,
            kind=self.kind,
            component=target.component,
            module=name,
            action=None if reason else self.scheme,
            reason=reason,
            rows=rows,
            features=(layer.in_features, layer.out_features),
            bytes_before=before,
            bytes_after=after,
        )

    def apply(self, module: nn.Module, changes: tuple[Change, ...], workshop: Workshop) -> None:
        import torch

        from qcompile.modules import linears

        scheme = SCHEMES[self.scheme]
        chosen = [change.module for change in changes if change.action]
        layers = linears(module)
        already = {name: type(layer.weight) for name, layer in layers.items() if name not in chosen}
        seen = inputs_of(module, chosen, workshop.calls) if scheme.calibrated else {}
        with torch.no_grad():
            for name in chosen:
                workshop.settle(layers[name])
                scheme.quantize(layers[name], self.settings, seen.get(name))
        module.requires_grad_(False)
        _census(scheme, module, set(chosen), already)


def refuse_uncompilable(changes: Iterable[Change], mode: str, place: str) -> None:
    """Refuse to compile layers of a scheme whose code can't be made in that way.

    Args:
        changes: what earlier steps do to the component that is compiled.
        mode: `aot` or `jit`.
        place: of the compile step, for the message.

    Raises:
        PlanError: naming the scheme, the reason and what to do instead.
    """
    for change in changes:
        if change.kind != Quantize.kind or change.action is None:
            continue
        scheme = SCHEMES[change.action]
        why_not = scheme.why_not_aot if mode == "aot" else scheme.why_not_jit
        if why_not:
            instead = "Use mode: jit" if mode == "aot" and not scheme.why_not_jit else "Leave the compile step out"
            raise PlanError(
                f"{place}.mode: {mode} can't compile {change.module}, which steps.{change.step} quantizes as "
                f"{scheme.name}: {why_not}. {instead}, or choose another scheme."
            )


def _default_reasons(target: Target, layers: dict[str, nn.Linear], place: str) -> dict[str, str | None]:
    from qcompile.modules import is_sensitive, kept_by_class, repeated_blocks

    blocks = repeated_blocks(target.module)
    if not blocks:
        raise PlanError(
            f"{place}: {type(target.module).__name__} has no repeated blocks, so there is no default choice of layers. "
            'Name them, for example layers: {include: ["**"], exclude: ["**.norm*.**"]}.'
        )
    prefixes = tuple(f"{name}." for name in blocks)

    def reason(name: str) -> str | None:
        if not name.startswith(prefixes):
            return "outside the repeated blocks"
        if is_sensitive(name):
            return "norm, modulation or embedding layer"
        hint = kept_by_class(target.module, name)
        return f"kept in high precision by {type(target.module).__name__} ({hint})" if hint else None

    return {name: reason(name) for name in layers}


def _unfit(place: str, name: str, layer: nn.Linear, rows: tuple[int, ...], unfit: str) -> str:
    seen = f"sees {min(rows)} rows and " if rows else ""
    return (
        f"{place}: {name} {seen}has {layer.in_features} to {layer.out_features} features, but {unfit}. "
        "Exclude it under layers.exclude, add layers.where with min_rows or min_features, or choose another scheme."
    )


def _census(scheme: Scheme, module: nn.Module, chosen: set[str], already: dict[str, type[torch.Tensor]]) -> None:
    """Compare what the backend did with what the plan said: it skips some layers without a word."""
    from qcompile.modules import linears

    skipped, added = [], []
    for name, layer in linears(module).items():
        if name in chosen and not scheme.recognise(layer.weight):
            skipped.append(f"{name} (still {type(layer.weight).__name__} of {layer.weight.dtype})")
        if name not in chosen and type(layer.weight) is not already[name]:
            added.append(name)
    if skipped or added:
        left = f"{len(skipped)} planned layers were not quantized: {', '.join(skipped[:5])}. " if skipped else ""
        more = (
            f"{len(added)} layers were quantized that the plan leaves alone: {', '.join(added[:5])}. " if added else ""
        )
        raise StepError(
            f"{scheme.backend} did not do what the plan says for {scheme.name}. {left}{more}"
            "Exclude these layers in the recipe; nothing was written."
        )
