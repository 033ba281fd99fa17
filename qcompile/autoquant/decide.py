"""Which scheme a layer gets, from what was measured: the rule alone, without a device."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qcompile.steps.autoquant import NONE

TAKEN = "taken"
"""Verdict on the scheme that a layer gets."""
UNMEASURED = "not measured: out of budget"
"""Verdict on a candidate for which there was no time."""


@dataclass(frozen=True)
class Timing:
    """How long calls of one compiled layer take."""

    median_us: float
    """Median of the samples, in microseconds."""
    spread_us: float
    """Half the distance from the lower to the upper quartile of the samples, in microseconds."""


@dataclass(frozen=True)
class Evidence:
    """What is known of one candidate for one layer."""

    sqnr_db: float | None = None
    """Worst signal-to-quantization-noise ratio of the layer's outputs, in dB; None where it was not measured."""
    timing: Timing | None = None
    """Its calls in one pass through the model, together; None where it was not measured."""
    obstacle: str | None = None
    """Why the layer can't have the scheme."""


@dataclass(frozen=True)
class Decision:
    """What a layer gets."""

    scheme: str
    """A candidate, or `none`."""
    verdicts: dict[str, str]
    """Why each candidate was taken or not."""

    @property
    def complete(self) -> bool:
        """Whether everything was measured that could have changed the decision."""
        return UNMEASURED not in self.verdicts.values()


def total(timings: Iterable[Timing | None]) -> Timing | None:
    """The calls of a layer together, None where one of them was not measured. Spreads add up: the worst case."""
    found = list(timings)
    known = [timing for timing in found if timing is not None]
    if len(known) < len(found) or not known:
        return None
    return Timing(sum(timing.median_us for timing in known), sum(timing.spread_us for timing in known))


def faster(timing: Timing, none: Timing) -> bool:
    """Whether a candidate beats the plain layer by more than the spreads of both together.

    Timings of two runs of the same code differ; a difference inside the spread may as well be a loss. Roughly, the
    candidate's upper quartile has to be below the lower quartile of `none`.
    """
    return none.median_us - timing.median_us > none.spread_us + timing.spread_us


def decide(none: Timing | None, evidence: Mapping[str, Evidence], min_sqnr_db: float) -> Decision:
    """Take the fastest candidate that is accurate enough and beats `none` by more than the spread, else `none`.

    Of two that are equally fast the more accurate one is taken, then the one named first.

    Args:
        none: the plain layer, compiled, measured interleaved with the candidates.
        evidence: what is known of each candidate, in the recipe's order.
        min_sqnr_db: bound on the SQNR of a layer's output.
    """
    verdicts: dict[str, str] = {}
    eligible: list[tuple[float, float, int, str]] = []
    for index, (name, known) in enumerate(evidence.items()):
        if known.obstacle is not None:
            verdicts[name] = known.obstacle
        elif known.sqnr_db is None:
            verdicts[name] = UNMEASURED
        elif not known.sqnr_db >= min_sqnr_db:  # NaN is not within any bound
            verdicts[name] = f"under {min_sqnr_db:g} dB"
        elif known.timing is None or none is None:
            verdicts[name] = UNMEASURED
        elif not faster(known.timing, none):
            verdicts[name] = f"not faster than {NONE}"
        else:
            eligible.append((known.timing.median_us, -known.sqnr_db, index, name))
    if not eligible:
        return Decision(NONE, verdicts)
    winner = min(eligible)[-1]
    for *_, name in eligible:
        verdicts[name] = TAKEN if name == winner else f"slower than {winner}"
    return Decision(winner, verdicts)
