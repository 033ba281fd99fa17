"""Numbers with units as people read them."""

import math

_SCALES = {
    "ms": ((1e3, 1e3, "s"), (0.0, 1.0, "ms")),
    "bytes": ((1e9, 1e9, "GB"), (1e6, 1e6, "MB"), (1e3, 1e3, "kB"), (0.0, 1.0, "bytes")),
}
"""(least value, divisor, name) of the units that a record's unit is shown in."""


def scale(unit: str, largest: float) -> tuple[float, str]:
    """What to divide values by, and the unit they are in then; one for all values of a chart or table.

    Args:
        unit: as records have it: `ms`, `s`, `bytes`.
        largest: the largest of the values.
    """
    for least, divisor, name in _SCALES.get(unit, ()):
        if largest >= least:
            return divisor, name
    return 1.0, unit


def number(value: float) -> str:
    """About three digits: `0.0123`, `1.37`, `97.3`, `1,234`."""
    size = abs(value)
    if not math.isfinite(value):
        return "not finite"
    if size == 0:
        return "0"
    if size < 0.001 or size >= 1e9:
        return f"{value:.2e}"
    if size < 0.995:
        return f"{value:.3g}"
    return f"{value:,.2f}" if size < 9.995 else f"{value:,.1f}" if size < 99.95 else f"{value:,.0f}"


def or_infinity(value: float | None) -> float:
    """A value of a record, which has null for what is not finite."""
    return math.inf if value is None else value


def quantity(value: float, unit: str) -> str:
    """`97.3 ms`, `16.5 GB`."""
    divisor, name = scale(unit, abs(value))
    return f"{number(value / divisor)} {name}"


def spread(low: float, high: float, count: int, what: str, unit: str = "") -> str:
    """`1.29 to 1.41 in 30 rounds`; one value has no spread, and the text says so."""
    return f"one {what}" if count == 1 else f"{number(low)} to {number(high)}{unit and ' '}{unit} in {count} {what}s"
