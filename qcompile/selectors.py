"""The one language in which recipes name modules: anchored globs over dotted names, and predicates.

`*` matches inside one part of a name, `**` any number of parts (none included):

    transformer_blocks.**          every module under transformer_blocks
    **.norm*.**                    whatever has a part that starts with norm
    transformer_blocks.*.attn.to_q that one layer of every block
"""

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import pydantic

from qcompile.errors import PlanError

BY_GLOB = ("not included", "excluded by")
"""Beginnings of the reasons that globs give; `where` has others."""


class Includes(pydantic.BaseModel):
    """`{includes: N}`: N is one of the numbers looked at."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    includes: int = pydantic.Field(ge=1, description="the number that must be among them")


class Where(pydantic.BaseModel):
    """Predicates; a module is taken only where all the given ones hold."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    type: Literal["linear", "conv2d"] | None = pydantic.Field(None, description="kind of layer")
    min_features: int | None = pydantic.Field(None, ge=1, description="both in and out features at least this")
    max_features: int | None = pydantic.Field(None, ge=1, description="both in and out features at most this")
    min_rows: int | None = pydantic.Field(
        None, ge=1, description="rows the layer sees in one call at least this, for every declared shape"
    )
    shapes_not: tuple[tuple[int, int], ...] = pydantic.Field((), description="(in, out) pairs left alone")
    kernel_size: int | None = pydantic.Field(None, ge=1, description="square convolution kernels of this size")
    channels: Includes | None = pydantic.Field(None, description="in or out channels of a convolution")


class Layers(pydantic.BaseModel):
    """Which modules of a component a step takes."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    include: tuple[str, ...] = pydantic.Field(("**",), description="globs over dotted module names")
    exclude: tuple[str, ...] = pydantic.Field((), description="globs taken out of include")
    where: Where = pydantic.Field(default_factory=Where)

    @pydantic.field_validator("include", "exclude")
    @classmethod
    def _globs_are_well_formed(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            parts = pattern.split(".")
            if "" in parts:
                raise ValueError(f"{pattern!r} has an empty part; write names as a.b.c")
            if any("**" in part and part != "**" for part in parts):
                raise ValueError(f"{pattern!r}: '**' stands alone between dots; inside one part use '*'")
        return patterns


@dataclass(frozen=True)
class Candidate:
    """What predicates can see of one layer."""

    type: str
    in_features: int
    out_features: int
    kernel_size: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()


def matches(pattern: str, name: str) -> bool:
    """Whether the dotted `name` as a whole matches the glob `pattern`."""
    return _parts_match(tuple(pattern.split(".")), tuple(name.split(".")))


@lru_cache(maxsize=65536)
def _parts_match(pattern: tuple[str, ...], name: tuple[str, ...]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return _parts_match(pattern[1:], name) or (bool(name) and _parts_match(pattern, name[1:]))
    # fnmatch also reads ? and [..]; module names hold neither, and escaping keeps a recipe that has them from matching.
    glob = pattern[0].replace("[", "[[]").replace("?", "[?]")
    return bool(name) and fnmatch.fnmatchcase(name[0], glob) and _parts_match(pattern[1:], name[1:])


def select(
    layers: Layers, candidates: Mapping[str, Candidate], all_names: Callable[[], list[str]], place: str
) -> dict[str, str | None]:
    """Decide for every candidate: None where it is taken, else the reason why not.

    Args:
        layers: the selector.
        candidates: layers the step could take, by dotted name.
        all_names: every module name of the component, for the message when a glob misses.
        place: where the selector stands in the recipe, for messages (`steps.2.quantize.layers`).

    Raises:
        PlanError: an `include` or `exclude` glob matches no candidate, or `min_rows` is asked for where no rows are
            known.
    """
    for key, patterns in (("include", layers.include), ("exclude", layers.exclude)):
        for pattern in patterns:
            if not any(matches(pattern, name) for name in candidates):
                raise PlanError(_nothing_matched(f"{place}.{key}", pattern, candidates, all_names()))
    return {name: _why_not(layers, name, candidate, place) for name, candidate in candidates.items()}


def _why_not(layers: Layers, name: str, candidate: Candidate, place: str) -> str | None:
    if not any(matches(pattern, name) for pattern in layers.include):
        return BY_GLOB[0]
    for pattern in layers.exclude:
        if matches(pattern, name):
            return f"{BY_GLOB[1]} {pattern}"
    where = layers.where
    features = (candidate.in_features, candidate.out_features)
    if where.type is not None and candidate.type != where.type:
        return f"is a {candidate.type}, not a {where.type}"
    if where.min_features is not None and min(features) < where.min_features:
        return f"features under min_features {where.min_features}"
    if where.max_features is not None and max(features) > where.max_features:
        return f"features over max_features {where.max_features}"
    if features in where.shapes_not:
        return "in shapes_not"
    if where.kernel_size is not None and set(candidate.kernel_size) != {where.kernel_size}:
        return f"kernel is not {where.kernel_size}x{where.kernel_size}"
    if where.channels is not None and where.channels.includes not in features:
        return f"{where.channels.includes} is not among its channels"
    if where.min_rows is not None:
        if not candidate.rows:
            raise PlanError(
                f"{place}.where.min_rows: the rows that {name} sees are not known, since the pipeline does not call it "
                "before the denoiser's first step. Leave min_rows out for this component, or exclude the layer."
            )
        if min(candidate.rows) < where.min_rows:
            return f"rows under min_rows {where.min_rows}"
    return None


def _nothing_matched(place: str, pattern: str, candidates: Mapping[str, Candidate], names: list[str]) -> str:
    kinds = " or ".join(sorted({candidate.type for candidate in candidates.values()})) or "layer"
    others = [name for name in names if name and matches(pattern, name)]
    if others:
        found = f"it matches {len(others)} other modules such as {others[0]!r}, but none of them is a {kinds}"
    else:
        found = f"names here look like {', '.join(repr(name) for name in list(candidates)[:2]) or 'nothing at all'}"
    return f"{place}: {pattern!r} matches no {kinds}; {found}. Globs cover the whole name: '**' stands for any parts."
