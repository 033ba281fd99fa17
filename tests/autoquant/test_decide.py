"""The rule that decides, as properties: whatever was measured, nobody gets a slower or a worse layer."""

import math

from hypothesis import given
from hypothesis import strategies as st

from qcompile.autoquant.decide import TAKEN, UNMEASURED, Evidence, Timing, decide, faster, total

NAMES = ("int8_dynamic", "float8_row", "float8_tensor", "int4_weight_only")
timings = st.builds(Timing, st.floats(1, 1e6), st.floats(0, 1e4))
evidence = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(
        Evidence,
        st.none() | st.floats(-20, 80) | st.sampled_from([math.inf, -math.inf, math.nan]),
        st.none() | timings,
        st.none() | st.just("features are not multiples of 16"),
    ),
)


@given(st.none() | timings, evidence, st.floats(0, 60))
def test_what_is_taken_is_accurate_and_faster_and_the_fastest(
    none: Timing | None, known: dict[str, Evidence], bound: float
) -> None:
    decision = decide(none, known, bound)
    good = {
        name: item.timing
        for name, item in known.items()
        if not item.obstacle
        and item.sqnr_db is not None
        and item.sqnr_db >= bound
        and none is not None
        and item.timing is not None
        and none.median_us - item.timing.median_us > none.spread_us + item.timing.spread_us
    }
    if good:
        assert decision.scheme in good
        assert good[decision.scheme].median_us == min(timing.median_us for timing in good.values())
    else:
        assert decision.scheme == "none"


@given(st.none() | timings, evidence, st.floats(0, 60))
def test_every_candidate_has_a_verdict_and_at_most_one_is_taken(
    none: Timing | None, known: dict[str, Evidence], bound: float
) -> None:
    decision = decide(none, known, bound)
    assert decision.verdicts.keys() == known.keys()
    taken = [name for name, verdict in decision.verdicts.items() if verdict == TAKEN]
    assert taken == ([] if decision.scheme == "none" else [decision.scheme])


@given(timings, evidence, st.floats(0, 60), st.floats(0, 60))
def test_a_stricter_bound_never_gives_a_faster_layer(
    none: Timing, known: dict[str, Evidence], bound: float, more: float
) -> None:
    def latency_us(scheme: str) -> float:
        timing = none if scheme == "none" else known[scheme].timing
        assert timing is not None
        return timing.median_us

    loose, strict = decide(none, known, bound), decide(none, known, bound + more)
    assert latency_us(loose.scheme) <= latency_us(strict.scheme)


@given(timings, evidence, st.floats(0, 60), st.randoms())
def test_the_order_of_candidates_decides_only_between_equals(
    none: Timing, known: dict[str, Evidence], bound: float, random
) -> None:
    names = list(known)
    random.shuffle(names)
    first, second = decide(none, known, bound).scheme, decide(none, {name: known[name] for name in names}, bound).scheme
    if first != second:
        one, other = known[first], known[second]
        assert one.timing is not None
        assert other.timing is not None
        assert (one.timing.median_us, one.sqnr_db) == (other.timing.median_us, other.sqnr_db)


@given(timings)
def test_the_same_code_twice_is_not_faster(none: Timing) -> None:
    assert not faster(none, none)


def test_a_gain_inside_the_spread_is_no_gain() -> None:
    none = Timing(100, 4)
    assert not faster(Timing(94, 2), none)
    assert faster(Timing(93, 2), none)


def test_of_two_equally_fast_ones_the_more_accurate_is_taken() -> None:
    known = {"float8_row": Evidence(30, Timing(50, 1)), "int8_dynamic": Evidence(40, Timing(50, 1))}
    assert decide(Timing(100, 1), known, 25).scheme == "int8_dynamic"


def test_verdicts_say_why() -> None:
    known = {
        "int8_dynamic": Evidence(40, Timing(50, 1)),
        "float8_row": Evidence(30, Timing(60, 1)),
        "float8_tensor": Evidence(24.9, Timing(10, 1)),
        "int4_weight_only": Evidence(30, Timing(99, 1)),
        "float8_weight_only": Evidence(30, None),
        "int8_weight_only": Evidence(obstacle="features are not multiples of 8"),
    }
    decision = decide(Timing(100, 1), known, 25)
    assert decision.verdicts == {
        "int8_dynamic": TAKEN,
        "float8_row": "slower than int8_dynamic",
        "float8_tensor": "under 25 dB",
        "int4_weight_only": "not faster than none",
        "float8_weight_only": UNMEASURED,
        "int8_weight_only": "features are not multiples of 8",
    }
    assert not decision.complete
    del known["float8_weight_only"]
    assert decide(Timing(100, 1), known, 25).complete


def test_a_layer_that_sees_several_shapes_is_judged_by_the_sum() -> None:
    small, large = Timing(10, 1), Timing(100, 5)
    assert total([small, large]) == Timing(110, 6)
    assert total([small, None]) is None
    assert total([]) is None
