"""The error that each quantized layer adds.

One layer (or the layers of one role) gets its original weights back while all others stay quantized; what the error of
the denoiser's output falls by is what these layers add. That is the very thing that excluding the layer does. The other
way, quantizing one layer of the original, measures a layer among neighbours it will never have. Errors of layers are
nearly independent, so that their squares add up: what single layers add sums to less than the whole error.
"""

import math
import statistics
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from qcompile.artifact.manifest import Manifest
from qcompile.change import Change
from qcompile.modules import repeated_blocks
from qcompile.quality.trajectory import Trajectory
from qcompile.recipe import Recipe
from qcompile.steps import Phase
from qcompile.verify.report import Sensitivity, SensitivityTable

NUM_CALLS = 4
"""Calls of the trajectory, spread over its length, that a layer is looked at with."""


def quantized_changes(recipe: Recipe, manifest: Manifest) -> dict[str, Change]:
    """What was quantized in the denoiser, by layer."""
    return {
        change.module: change
        for change in manifest.changes
        if change.component == manifest.denoiser and change.action and recipe.steps[change.step].phase is Phase.QUANTIZE
    }


def take_layers(denoiser: nn.Module, names: Collection[str]) -> dict[str, nn.Module]:
    """The original's layers on the CPU, rewritten as the artifact's are, by name."""
    return {name: denoiser.get_submodule(name).to("cpu") for name in names}


@contextmanager
def swapped_back(denoiser: nn.Module, originals: Mapping[str, nn.Module], names: Collection[str]) -> Iterator[None]:
    """Put the original layers called `names` in the quantized denoiser's place of them while the body runs."""
    device = next(denoiser.parameters()).device
    quantized = {name: denoiser.get_submodule(name) for name in names}
    try:
        for name in names:
            denoiser.set_submodule(name, originals[name].to(device))
        yield
    finally:
        for name, layer in quantized.items():
            denoiser.set_submodule(name, layer)
            originals[name].to("cpu")


def role(name: str, blocks: Collection[str]) -> str:
    """A glob for the same layer of every block: the name, with `*` for the numbers of the repeated block it is in."""
    for block in blocks:
        if name.startswith(f"{block}."):
            shared = ".".join("*" if part.isdecimal() else part for part in block.split("."))
            return shared + name[len(block) :]
    return name


def groups(denoiser: nn.Module, names: Collection[str], each: bool) -> dict[str, tuple[str, ...]]:
    """Layers by role, or each by itself."""
    blocks = repeated_blocks(denoiser)
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        key = name if each else role(name, blocks)
        found[key] = (*found.get(key, ()), name)
    return found


def sensitivity(
    denoiser: nn.Module,
    originals: Mapping[str, nn.Module],
    changes: Mapping[str, Change],
    trajectory: Trajectory,
    each: bool,
) -> SensitivityTable:
    """Measure what every group of quantized layers adds.

    Args:
        denoiser: the quantized one, run eagerly.
        originals: the original's layers, rewritten alike, by name.
        changes: what was quantized, by layer.
        trajectory: the original's.
        each: every layer by itself instead of all layers of one role together.
    """
    calls = trajectory.spread(NUM_CALLS)
    error = statistics.fmean(trajectory.errors(denoiser, calls))
    rows = []
    for name, layers in groups(denoiser, changes, each).items():
        with swapped_back(denoiser, originals, layers):
            without = statistics.fmean(trajectory.errors(denoiser, calls))
        schemes = dict.fromkeys(str(changes[layer].action) for layer in layers)
        saved = sum(changes[layer].bytes_before - changes[layer].bytes_after for layer in layers)
        rows.append(Sensitivity(name, layers, ", ".join(schemes), without, error - without, saved))
    return SensitivityTable(error, calls, tuple(sorted(rows, key=_badness, reverse=True)))


def _badness(row: Sensitivity) -> float:
    """What a row adds; without the layers of the worst an error is finite that is not otherwise."""
    if math.isnan(row.adds):
        return math.inf if math.isfinite(row.error_without) else -math.inf
    return row.adds
