"""Which layers to exclude so that a recipe's bounds are met."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import yaml

from qcompile.artifact.manifest import Manifest
from qcompile.change import Change
from qcompile.errors import VerifyError
from qcompile.header import Bounds
from qcompile.modules import linears
from qcompile.quality.bounds import Check, Measured, checks
from qcompile.quality.reference import Reference, errors_of, measure
from qcompile.recipe import Recipe
from qcompile.selectors import Layers, matches
from qcompile.steps import Phase
from qcompile.steps.quantize import Quantize
from qcompile.subject import Subject
from qcompile.verify.report import Sensitivity, Suggestion
from qcompile.verify.sensitivity import groups, swapped_back


def suggest(
    subject: Subject,
    originals: Mapping[str, Any],
    reference: Reference,
    rows: Sequence[Sensitivity],
    bounds: Bounds,
    compiled_error: float,
    recipe: Recipe,
    manifest: Manifest,
) -> Suggestion:
    """Find few layers whose exclusion meets every bound, worst layers first, and check the choice as a whole.

    Args:
        subject: the artifact, run eagerly.
        originals: the original's layers, rewritten alike, by name.
        reference: what the original showed.
        rows: the sensitivity table, the worst first.
        bounds: what has to be met.
        compiled_error: relative error of compiled against eager output; compiled code will add it.
        recipe: the artifact's.
        manifest: the artifact's.

    Raises:
        VerifyError: no choice of layers meets them.
    """
    denoiser = subject.components[subject.denoiser]
    tried: dict[frozenset[str], tuple[Check, ...]] = {}

    def checked(chosen: Sequence[Sensitivity]) -> tuple[Check, ...]:
        key = frozenset(row.name for row in chosen)
        if key not in tried:
            with swapped_back(denoiser, originals, [layer for row in chosen for layer in row.layers]):
                tried[key] = _checks(subject, reference, bounds, compiled_error)
        return tried[key]

    def meets(chosen: Sequence[Sensitivity]) -> bool:
        return all(check.holds for check in checked(chosen))

    if not meets(()) and not meets(rows):
        missed = next(check for check in checked(rows) if not check.holds)
        raise VerifyError(
            f"verify.{missed.bound}: {missed.where} is {missed.value:.4g} even with every layer at its original "
            f"weights; {missed.allowed} can't be met by excluding layers. Widen the bound, or look at the other steps."
        )
    chosen = _pruned(list(rows[: _shortest(rows, meets)]), meets)
    layers = [layer for row in chosen for layer in row.layers]
    emptied = _emptied(manifest, layers)
    fragments = _fragments(recipe, manifest, subject, [row.name for row in chosen], layers)
    return Suggestion(
        excluded=tuple(row.name for row in chosen),
        layers=tuple(layers),
        bytes_lost=sum(row.bytes_saved for row in chosen),
        fragments={index: fragment for index, fragment in fragments.items() if index not in emptied},
        checks=checked(chosen),
        emptied=emptied,
    )


def _shortest(rows: Sequence[Sensitivity], meets: Callable[[Sequence[Sensitivity]], bool]) -> int:
    """How many of the worst rows have to go, by bisection: an error is expected to fall with every one of them."""
    low, high = (0, 0) if meets(()) else (1, len(rows))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(rows[:middle]) else (middle + 1, high)
    return high


def _pruned(chosen: list[Sensitivity], meets: Callable[[Sequence[Sensitivity]], bool]) -> list[Sensitivity]:
    """Without those that turn out not to be needed, the most bytes first."""
    for row in sorted(chosen, key=lambda row: -row.bytes_saved):
        fewer = [other for other in chosen if other is not row]
        if meets(fewer):
            chosen = fewer
    return chosen


def _checks(subject: Subject, reference: Reference, bounds: Bounds, compiled_error: float) -> tuple[Check, ...]:
    of_images = (bounds.min_psnr_db, bounds.min_ssim, bounds.max_score_loss_points)
    if all(bound is None for bound in of_images):
        denoiser = subject.components[subject.denoiser]
        measured = Measured(errors_of(denoiser, reference.calls, reference.outputs))
        if bounds.max_step_error is not None:
            measured.step_errors = reference.trajectory.errors(denoiser)
    else:
        measured, _ = measure(subject, reference, "the artifact's")
    # Roundings of quantization and of compilation are independent, so that their squares add up.
    measured.quantized_errors = {
        label: math.hypot(error, compiled_error) for label, error in measured.quantized_errors.items()
    }
    measured.step_errors = tuple(math.hypot(error, compiled_error) for error in measured.step_errors)
    return checks(bounds, measured, subject.denoiser)


def _emptied(manifest: Manifest, layers: Collection[str]) -> tuple[int, ...]:
    """Steps all of whose layers are among `layers`: `plan` refuses a step that has none left."""
    of_steps: dict[int, set[str]] = {}
    for change in manifest.changes:
        if change.component == manifest.denoiser and change.kind == Quantize.kind and change.action:
            of_steps.setdefault(change.step, set()).add(change.module)
    return tuple(index for index, names in of_steps.items() if names <= set(layers))


def _fragments(
    recipe: Recipe, manifest: Manifest, subject: Subject, excluded: Sequence[str], layers: Collection[str]
) -> dict[int, str]:
    """For every step that would quantize one of `layers`: its `layers` with them excluded, as YAML."""
    found = {}
    for index, step in enumerate(recipe.steps):
        if step.phase is not Phase.QUANTIZE or step.owner != manifest.denoiser or not hasattr(step, "layers"):
            continue
        own: Layers | None = step.layers
        if any(_takes(own, layer) for layer in layers):
            # The text's own keys are kept, whatever they are; only what is excluded is added.
            options = next(iter(recipe.data["steps"][index].values()))
            selector = dict(options["layers"]) if own else {"include": _includes(index, manifest, subject)}
            known = list(selector.get("exclude", ()))
            selector["exclude"] = known + [glob for glob in excluded if glob not in known]
            found[index] = yaml.safe_dump({"layers": selector}, sort_keys=False, width=120)
    return found


def _takes(layers: Layers | None, name: str) -> bool:
    if layers is None:
        return True
    return any(matches(glob, name) for glob in layers.include) and not any(
        matches(glob, name) for glob in layers.exclude
    )


def _includes(index: int, manifest: Manifest, subject: Subject) -> list[str]:
    """Globs for exactly what a step without `layers` quantized: naming any layers ends its default choice."""
    denoiser = subject.components[subject.denoiser]
    changes: dict[str, Change] = {
        change.module: change for change in manifest.changes if change.step == index and change.action
    }
    globs: list[str] = []
    for glob, names in groups(denoiser, changes, each=False).items():
        exact = {name for name in linears(denoiser) if matches(glob, name)} == set(names)
        globs += [glob] if exact else names
    return globs
