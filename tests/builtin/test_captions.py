import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.builtin.captions import (
    COLOURS,
    RELATIONS,
    SHAPES,
    Caption,
    Thing,
    all_captions,
    held_out_captions,
    is_held_out,
    parse_caption,
    sample_captions,
    train_captions,
)


@given(st.sampled_from(all_captions()))
def test_every_caption_is_read_back_from_its_text(caption: Caption) -> None:
    assert parse_caption(caption.text) == caption
    assert parse_caption(f"  {caption.text.upper()} ") == caption


def test_the_grammar() -> None:
    assert parse_caption("a large red circle on a blue background") == Caption(
        "blue", (Thing("red", "circle", "large"),)
    )
    two = parse_caption("a red ring above an orange star on a black background")
    assert (two.relation, [thing.shape for thing in two.things]) == ("above", ["ring", "star"])
    assert len(all_captions()) == 1008 + 28224


@pytest.mark.parametrize(
    "text",
    [
        "a red circle",
        "a pink circle on a blue background",
        "a red circle on a red background",
        "a large red circle above a blue ring on a white background",
        "a red circle below a blue ring on a white background",
        "",
    ],
)
def test_what_is_no_caption(text: str) -> None:
    with pytest.raises(ValueError, match="caption|seen"):
        parse_caption(text)


def test_held_out_captions_are_never_trained_on_and_cover_everything() -> None:
    held_out = held_out_captions(200)
    assert len(set(held_out)) == 200
    assert not set(held_out) & set(train_captions())
    assert all(is_held_out(caption) for caption in held_out)
    assert held_out_captions(200) == held_out
    assert {caption.background for caption in held_out} == set(COLOURS)
    assert {thing.shape for caption in held_out for thing in caption.things} == set(SHAPES)
    assert {caption.relation for caption in held_out} == {None, *RELATIONS}
    assert sum(caption.relation is None for caption in held_out) == 100


def test_sampling_is_seeded() -> None:
    assert sample_captions(20, seed=1) == sample_captions(20, seed=1)
    assert sample_captions(20, seed=1) != sample_captions(20, seed=2)
    assert not any(is_held_out(caption) for caption in sample_captions(200, seed=3))
    with pytest.raises(ValueError, match="held-out captions asked for"):
        held_out_captions(10**6)
