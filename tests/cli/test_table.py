"""Columns and figures as text."""

from qcompile.cli.table import megabytes, plural, table


def test_columns_are_aligned() -> None:
    assert table([("a", "1"), ("long", "200")], right=(1,)) == "  a       1\n  long  200"


def test_no_trailing_spaces() -> None:
    assert table([("a", ""), ("b", "long")], indent="") == "a\nb  long"


def test_megabytes_are_decimal() -> None:
    assert megabytes(6_420_000) == "6.42 MB"
    assert megabytes(23_802_816_000) == "23,803 MB"


def test_plural() -> None:
    assert [plural(count, "file") for count in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
