"""Names that differ only in indices."""

from qcompile.fold import fold


def test_a_run_of_blocks_is_one_row() -> None:
    names = [f"transformer_blocks.{index}.attn.to_q" for index in range(19)]
    assert fold(names) == [("transformer_blocks.{0..18}.attn.to_q", 19)]


def test_gaps_stay_visible() -> None:
    names = [f"blocks.{index}.proj" for index in (0, 1, 2, 5, 7, 8)]
    assert fold(names) == [("blocks.{0..2,5,7..8}.proj", 6)]


def test_a_single_name_is_left_as_it_is() -> None:
    assert fold(["blocks.3.ff.net.0.proj"]) == [("blocks.3.ff.net.0.proj", 1)]


def test_two_indices_fold_only_where_every_pair_is_there() -> None:
    full = [f"down.{outer}.attn.{inner}.q" for outer in range(2) for inner in range(3)]
    assert fold(full) == [("down.{0..1}.attn.{0..2}.q", 6)]
    assert sorted(fold(full[:-1])) == [("down.0.attn.2.q", 1), ("down.{0..1}.attn.{0..1}.q", 4)]


def test_different_words_never_fold() -> None:
    assert fold(["a.0.q", "a.0.k", "a.1.q"]) == [("a.{0..1}.q", 2), ("a.0.k", 1)]


def test_the_component_itself_has_the_empty_name() -> None:
    assert fold([""]) == [("", 1)]
    assert fold([]) == []
