"""What would make a recipe's result faster on a GPU, as far as it was measured."""

from collections.abc import Iterator, Sequence

from qcompile.change import Change
from qcompile.recipe import Recipe
from qcompile.schemes import SCHEMES, Scheme
from qcompile.steps.compile import Compile


def hints(recipe: Recipe, changes: Sequence[Change], capability: tuple[int, int] | None) -> tuple[str, ...]:
    """Say which quantized layers will be slower than plain ones, and what to do.

    Args:
        recipe: the recipe.
        changes: what its steps do.
        capability: (major, minor) of the GPU; None on a CPU.
    """
    found: list[str] = []
    for index, step in enumerate(recipe.steps):
        scheme = SCHEMES.get(getattr(step, "scheme", ""))
        if scheme is None or capability is None:
            continue
        gpu = f"a GPU of compute capability {'.'.join(map(str, capability))}"
        place = f"steps.{index}.{step.kind}"
        if capability in scheme.slow_unless_searched:
            found += (
                f"{place}.scheme: on {gpu} {scheme.name} is slower than the plain layer with the kernels that the "
                f"compiler takes by itself. Set {tuning} to max-autotune-no-cudagraphs, which searches for faster ones "
                "(building takes minutes), or choose a float8 scheme."
                for tuning in _unsearched(recipe, step.owner)
            )
        if capability in scheme.slow_up_to_features:
            found += _small_layers(place, scheme, scheme.slow_up_to_features[capability], gpu, index, changes)
    return tuple(found)


def _unsearched(recipe: Recipe, owner: str | None) -> Iterator[str]:
    """The tuning of compile steps that take the first kernel."""
    for index, step in enumerate(recipe.steps):
        if not isinstance(step, Compile) or step.owner != owner:
            continue
        if "max-autotune" not in step.tuning and not recipe.inductor_options(index).get("max_autotune"):
            yield f"steps.{index}.{step.kind}.tuning"


def _small_layers(
    place: str, scheme: Scheme, most: int, gpu: str, index: int, changes: Sequence[Change]
) -> Iterator[str]:
    """A word on layers of a size at which the scheme was slower wherever it was measured."""
    mine = [change for change in changes if change.step == index and change.action and change.features]
    small = [change for change in mine if min(change.features or ()) <= most]
    if small:
        rest = (
            f"Leave them out (layers.where.min_features: {most + 1})" if len(small) < len(mine) else "Take the step out"
        )
        yield (
            f"{place}.scheme: {len(small)} of its {len(mine)} layers have {most} or fewer in or out features. On {gpu} "
            f"such layers took longer in {scheme.name} than plain ones wherever they were measured, with the best "
            f"kernels of a search. {rest}, or set scheme: autoquant, which measures each layer."
        )
