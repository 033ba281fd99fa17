# SPDX-License-Identifier: Apache-2.0
"""The language flux-mini understands: what a caption says, its words, and which captions are kept out of training."""

import hashlib
import itertools
import random
import re
from dataclasses import dataclass
from functools import lru_cache

COLOURS: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "orange", "black", "white")
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES: tuple[str, ...] = ("small", "large")
RELATIONS: tuple[str, ...] = ("left of", "above")

HELD_OUT_FRACTION = 0.12

_GRAMMAR = re.compile(
    r"an? (?:(?P<size>{size}) )?(?P<colour>{colour}) (?P<shape>{shape})"
    r"(?: (?P<relation>{relation}) an? (?P<colour_2>{colour}) (?P<shape_2>{shape}))?"
    r" on an? (?P<background>{colour}) background".format(
        size="|".join(SIZES), colour="|".join(COLOURS), shape="|".join(SHAPES), relation="|".join(RELATIONS)
    )
)


@dataclass(frozen=True)
class Thing:
    """One shape in a caption. A caption with two shapes gives neither a size."""

    colour: str
    shape: str
    size: str | None = None


@dataclass(frozen=True)
class Caption:
    """One or two things on a plain background. The first of two is left of, or above, the second.

    Raises:
        ValueError: a word outside the vocabulary, a thing in the background's colour, or a form the grammar lacks.
    """

    background: str
    things: tuple[Thing, ...]
    relation: str | None = None

    def __post_init__(self) -> None:
        for thing in self.things:
            _require(thing.colour, COLOURS, "colour")
            _require(thing.shape, SHAPES, "shape")
            if thing.size is not None:
                _require(thing.size, SIZES, "size")
            if thing.colour == self.background:
                raise ValueError(f"a {thing.colour} {thing.shape} can't be seen on a {self.background} background")
        _require(self.background, COLOURS, "background colour")
        if self.relation is not None:
            _require(self.relation, RELATIONS, "relation")
        if len(self.things) != (1 if self.relation is None else 2):
            raise ValueError(f"{len(self.things)} things with relation {self.relation!r}: a relation joins exactly two")
        if self.relation is not None and any(thing.size for thing in self.things):
            raise ValueError("only a caption with one thing may give a size")

    @property
    def text(self) -> str:
        """The caption as the model reads it."""
        first = self.things[0]
        words = f"a {first.size + ' ' if first.size else ''}{first.colour} {first.shape}"
        if self.relation is not None:
            words += f" {self.relation} a {self.things[1].colour} {self.things[1].shape}"
        return f"{words} on a {self.background} background"


def _require(word: str, allowed: tuple[str, ...], what: str) -> None:
    if word not in allowed:
        raise ValueError(f"{word!r} is no {what}; known: {', '.join(allowed)}")


def parse_caption(text: str) -> Caption:
    """Read a caption back from its text; `an` counts as `a`, and capitals don't matter.

    Raises:
        ValueError: the text is not in the grammar.
    """
    match = _GRAMMAR.fullmatch(" ".join(text.lower().split()))
    if match is None or (match["size"] and match["relation"]):
        raise ValueError(
            f"{text!r} is not a caption; write 'a [small|large] COLOUR SHAPE on a COLOUR background' or "
            f"'a COLOUR SHAPE left of|above a COLOUR SHAPE on a COLOUR background' "
            f"(colours: {', '.join(COLOURS)}; shapes: {', '.join(SHAPES)})"
        )
    things = [Thing(match["colour"], match["shape"], match["size"])]
    if match["relation"]:
        things.append(Thing(match["colour_2"], match["shape_2"]))
    return Caption(match["background"], tuple(things), match["relation"])


@lru_cache(maxsize=1)
def all_captions() -> tuple[Caption, ...]:
    """Every caption of the grammar in a fixed order: 1008 with one thing, then 28224 with two."""
    one = [
        Caption(background, (Thing(colour, shape, size),))
        for background, colour, shape, size in itertools.product(COLOURS, COLOURS, SHAPES, (None, *SIZES))
        if colour != background
    ]
    two = [
        Caption(background, (Thing(colour, shape), Thing(colour_2, shape_2)), relation)
        for background, colour, shape, relation, colour_2, shape_2 in itertools.product(
            COLOURS, COLOURS, SHAPES, RELATIONS, COLOURS, SHAPES
        )
        if background not in (colour, colour_2)
    ]
    return (*one, *two)


def _hash_fraction(caption: Caption) -> float:
    digest = hashlib.sha256(caption.text.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_held_out(caption: Caption) -> bool:
    """True if training never sees this caption. Depends on the caption's text alone."""
    return _hash_fraction(caption) < HELD_OUT_FRACTION


@lru_cache(maxsize=1)
def train_captions() -> tuple[Caption, ...]:
    """All captions training may use."""
    return tuple(caption for caption in all_captions() if not is_held_out(caption))


def held_out_captions(count: int = 200) -> tuple[Caption, ...]:
    """`count` captions that training never saw, half with one thing and half with two, always the same ones.

    Raises:
        ValueError: fewer captions than that were held out.
    """
    held_out = sorted((caption for caption in all_captions() if is_held_out(caption)), key=_hash_fraction)
    one = [caption for caption in held_out if caption.relation is None][: count // 2]
    two = [caption for caption in held_out if caption.relation is not None][: count - count // 2]
    if len(one) + len(two) < count:
        raise ValueError(f"{count} held-out captions asked for; only {len(one)} with one thing and {len(two)} with two")
    return (*one, *two)


def sample_captions(count: int, *, seed: int, captions: tuple[Caption, ...] | None = None) -> tuple[Caption, ...]:
    """Draw captions, with one or two things equally often, from the training ones unless `captions` are given."""
    pool = train_captions() if captions is None else captions
    forms = [form for form in _by_form(pool) if form]
    draw = random.Random(seed)
    return tuple(draw.choice(draw.choice(forms)) for _ in range(count))


def _by_form(captions: tuple[Caption, ...]) -> tuple[list[Caption], list[Caption]]:
    return [c for c in captions if c.relation is None], [c for c in captions if c.relation is not None]
