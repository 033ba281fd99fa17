import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.errors import PlanError
from qcompile.selectors import Candidate, Layers, Where, matches, select

PARTS = st.text("abcnorm_0123456789", min_size=1, max_size=6)
NAMES = st.lists(PARTS, min_size=1, max_size=5).map(".".join)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("blocks.*.attn.to_q", "blocks.3.attn.to_q", True),
        ("blocks.*.attn.to_q", "blocks.3.x.attn.to_q", False),
        ("blocks.**", "blocks.3.attn.to_q", True),
        ("blocks.**", "blocks", True),
        ("blocks.**", "single_blocks.0", False),
        ("proj_out", "blocks.0.proj_out", False),
        ("**.proj_out", "proj_out", True),
        ("**.norm*.**", "blocks.0.norm1.linear", True),
        ("**.norm*.**", "norm1", True),
        ("**.norm*.**", "blocks.0.attn.to_q", False),
        ("to_?", "to_q", False),
        ("to_[qk]", "to_q", False),
        ("**", "anything.at.all", True),
        ("*", "a.b", False),
    ],
)
def test_globs_cover_the_whole_name(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@given(NAMES)
def test_a_name_matches_itself_and_double_star(name: str) -> None:
    assert matches(name, name)
    assert matches("**", name)
    assert matches(f"**.{name.rsplit('.', 1)[-1]}", name)


@given(NAMES, NAMES)
def test_a_name_without_stars_matches_nothing_else(pattern: str, name: str) -> None:
    assert matches(pattern, name) is (pattern == name)


@given(NAMES, PARTS)
def test_a_single_star_stands_for_exactly_one_part(name: str, part: str) -> None:
    assert matches(f"{name}.*", f"{name}.{part}")
    assert not matches(f"{name}.*", name)
    assert not matches(f"{name}.*", f"{name}.{part}.{part}")


@pytest.mark.parametrize("pattern", ["a..b", "", ".a", "a.b**", "**c.d"])
def test_malformed_globs_are_refused(pattern: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        Layers(include=(pattern,))


LINEARS = {
    "blocks.0.attn.to_q": Candidate("linear", 64, 64, rows=(256, 128)),
    "blocks.0.norm.linear": Candidate("linear", 64, 192, rows=(1, 1)),
    "blocks.0.ff.up": Candidate("linear", 64, 256, rows=(256, 128)),
    "proj_out": Candidate("linear", 64, 16, rows=(256, 128)),
}


def chosen(layers: Layers) -> set[str]:
    reasons = select(layers, LINEARS, lambda: [*LINEARS, "blocks.0.attn.norm_q"], "steps.0.quantize.layers")
    return {name for name, reason in reasons.items() if reason is None}


def test_include_then_exclude() -> None:
    assert chosen(Layers(include=("blocks.**",), exclude=("**.norm.**",))) == {"blocks.0.attn.to_q", "blocks.0.ff.up"}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Where(min_rows=17), {"blocks.0.attn.to_q", "blocks.0.ff.up", "proj_out"}),
        (Where(min_rows=200), set()),
        (Where(min_features=17), {"blocks.0.attn.to_q", "blocks.0.norm.linear", "blocks.0.ff.up"}),
        (Where(max_features=192), {"blocks.0.attn.to_q", "blocks.0.norm.linear", "proj_out"}),
        (Where(shapes_not=((64, 256), (64, 16))), {"blocks.0.attn.to_q", "blocks.0.norm.linear"}),
        (Where(type="conv2d"), set()),
        (Where(channels={"includes": 16}), {"proj_out"}),
        (Where(kernel_size=1), set()),
    ],
)
def test_predicates(where: Where, expected: set[str]) -> None:
    assert chosen(Layers(where=where)) == expected


@pytest.mark.parametrize("key", ["include", "exclude"])
def test_a_glob_that_matches_nothing_names_its_place_and_what_there_is(key: str) -> None:
    with pytest.raises(
        PlanError, match=rf"steps\.0\.quantize\.layers\.{key}: 'block\.\*\*' matches no linear.*blocks\.0"
    ):
        chosen(Layers(**{key: ("block.**",)}))


def test_a_glob_that_matches_only_other_modules_says_so() -> None:
    with pytest.raises(PlanError, match="matches 1 other modules such as 'blocks.0.attn.norm_q'"):
        chosen(Layers(exclude=("**.norm_q",)))


def test_min_rows_without_known_rows_is_an_error() -> None:
    candidates = {"decoder.to_q": Candidate("linear", 64, 64)}
    with pytest.raises(PlanError, match="min_rows: the rows that decoder.to_q sees are not known"):
        select(Layers(where=Where(min_rows=17)), candidates, lambda: [], "steps.0.quantize.layers")
