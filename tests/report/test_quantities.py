import math

import pytest

from qcompile.report.quantities import number, quantity, scale, spread


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00012345, "1.23e-04"),
        (0.0123456, "0.0123"),
        (0.9949, "0.995"),
        (0.996, "1.00"),
        (1.3713, "1.37"),
        (9.996, "10.0"),
        (97.28, "97.3"),
        (99.96, "100"),
        (1234.5, "1,234"),
        (2e9, "2.00e+09"),
        (-1.5, "-1.50"),
        (math.inf, "not finite"),
        (math.nan, "not finite"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (97.28, "ms", "97.3 ms"),
        (5057, "ms", "5.06 s"),
        (16511035334, "bytes", "16.5 GB"),
        (2174894, "bytes", "2.17 MB"),
        (30262, "bytes", "30.3 kB"),
        (512, "bytes", "512 bytes"),
        (0.18, "s", "0.18 s"),
        (0.34, "image/s", "0.34 image/s"),
    ],
)
def test_units_fit_the_size(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_one_unit_for_all_values() -> None:
    assert scale("ms", 12_000) == (1e3, "s")
    assert scale("ms", 12) == (1.0, "ms")
    assert scale("TFLOP/s", 12_000) == (1.0, "TFLOP/s")


def test_one_value_has_no_spread() -> None:
    assert spread(1.29, 1.41, 30, "round") == "1.29 to 1.41 in 30 rounds"
    assert spread(1, 2, 2, "cold start", "GB") == "1.00 to 2.00 GB in 2 cold starts"
    assert spread(5, 5, 1, "round") == "one round"
