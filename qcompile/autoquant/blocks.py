"""Whole blocks, once each layer has its scheme: whether one scheme throughout is as fast.

Latencies of single layers don't hold what fusing across layers gains or costs: layers that share an input share its
quantization where they share the scheme, and the code that computes an input may quantize it in the same pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from qcompile.aot.callspec import Arguments
from qcompile.autoquant.decide import TAKEN, Decision, Timing, faster
from qcompile.modules import bare_copy, repeated_blocks
from qcompile.steps.autoquant import NONE

CHOSEN = "layer by layer"
"""Name of the variant that the single layers' latencies gave."""
CLOSE = 1.1
"""A scheme is compared where its layers, one by one, together take at most this much longer than those chosen."""

LayerCost = Callable[[str, str], float | None]
"""(layer, scheme) -> microseconds of its calls; None where the layer can't have it, or it was not measured."""


@dataclass(frozen=True)
class Group:
    """Blocks of one class whose layers were given the same schemes."""

    kind: str
    """Name of the class."""
    blocks: tuple[str, ...]
    """Dotted names."""
    chosen: Mapping[str, str]
    """Layer's name in the block -> scheme or `none`, of the layers there is to choose for."""
    rivals: tuple[str, ...]
    """Schemes that every layer of these blocks can have, and that may be faster throughout."""

    def variants(self) -> dict[str, Mapping[str, str]]:
        """What is to be timed: name -> layer -> scheme."""
        return {CHOSEN: self.chosen} | {scheme: dict.fromkeys(self.chosen, scheme) for scheme in self.rivals}

    def key(self) -> str:
        """What the latencies depend on besides machine and layers' shapes."""
        return f"{self.kind}: {', '.join(f'{name} {scheme}' for name, scheme in self.chosen.items())}"


@dataclass
class BlockSample:
    """A block and all that one step of each declared shape calls it with."""

    block: nn.Module
    """A copy, not quantized, on the device."""
    calls: list[tuple[Sequence[Any], Mapping[str, Any]]] = field(default_factory=list)
    """Positional and keyword arguments."""


def groups(
    model: nn.Module, decisions: Mapping[str, Decision], candidates: Sequence[str], cost: LayerCost
) -> list[Group]:
    """The blocks for which it may matter, grouped."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for name, block in repeated_blocks(model).items():
        chosen = tuple(
            (layer.removeprefix(f"{name}."), decision.scheme)
            for layer, decision in decisions.items()
            if layer.startswith(f"{name}.")
        )
        if chosen:
            found.setdefault((type(block).__name__, chosen), []).append(name)
    made = [
        Group(kind, tuple(names), dict(chosen), _rivals(names, dict(chosen), candidates, cost))
        for (kind, chosen), names in found.items()
    ]
    return [group for group in made if group.rivals and set(group.chosen.values()) != {NONE}]


def _rivals(
    blocks: Sequence[str], chosen: Mapping[str, str], candidates: Sequence[str], cost: LayerCost
) -> tuple[str, ...]:
    def total(block: str, schemes: Mapping[str, str]) -> float | None:
        known = [cost(f"{block}.{layer}", scheme) for layer, scheme in schemes.items()]
        return None if None in known else sum(filter(None, known))

    def may_be_faster(scheme: str) -> bool:
        throughout = dict.fromkeys(chosen, scheme)
        pairs = [(total(block, throughout), total(block, chosen)) for block in blocks]
        return all(mine is not None and theirs is not None and mine <= CLOSE * theirs for mine, theirs in pairs)

    return tuple(scheme for scheme in candidates if set(chosen.values()) != {scheme} and may_be_faster(scheme))


def sample_block(model: nn.Module, name: str, calls: Mapping[str, Arguments]) -> BlockSample:
    """Run `model` eagerly once for each of `calls` and keep a block, by its dotted name, with its arguments."""
    samples: list[BlockSample] = []

    def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not samples:
            # Now, since a streamed block's weights are on the device only while it runs.
            samples.append(BlockSample(bare_copy(block)))
        samples[0].calls.append(tree_map_only(torch.Tensor, torch.clone, (args, kwargs)))

    handle = model.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with torch.no_grad():
            for call in calls.values():
                model(**call)
    finally:
        handle.remove()
    return samples[0]


def winner(group: Group, timings: Mapping[str, Timing | str]) -> str:
    """The fastest variant; of those that are equally fast, by the spread, one scheme throughout.

    One scheme is what people read more easily, and what other measurements can be held against. But a layer that is
    better off as it is by itself stays so, unless its block is faster by more than the spread.
    """
    known = {name: found for name, found in timings.items() if isinstance(found, Timing)}
    chosen = known.get(CHOSEN)
    if chosen is not None and NONE in group.chosen.values():
        known = {name: found for name, found in known.items() if name == CHOSEN or faster(found, chosen)}
    if not known:
        return CHOSEN
    best = min(known.values(), key=lambda timing: timing.median_us)
    equal = {name: found.median_us for name, found in known.items() if not faster(best, found)}
    throughout = [name for name in equal if name != CHOSEN]
    return min(throughout or equal, key=equal.__getitem__)


def overruled(decision: Decision, scheme: str) -> Decision:
    """The decision for a layer whose whole block is faster in `scheme`."""
    verdicts = dict(decision.verdicts)
    if decision.scheme != NONE:
        verdicts[decision.scheme] = f"not faster than {scheme} in whole blocks"
    return Decision(scheme, verdicts | {scheme: TAKEN})


def describe_timings(group: Group, timings: Mapping[str, Timing | str], taken: str) -> str:
    """What was found of a group, for people."""
    count = f"{len(group.blocks)} {'block' if len(group.blocks) == 1 else 'blocks'}"
    parts = [
        f"{name} {found}"
        if isinstance(found, str)
        else f"{name} {found.median_us:.1f} us (spread {found.spread_us:.1f})"
        for name, found in timings.items()
    ]
    return f"{group.kind} as a whole, {count}: {', '.join(parts)}; taken: {taken}"
