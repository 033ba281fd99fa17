"""A table of the page, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "number", "code", "mark"]


@dataclass(frozen=True)
class Column:
    """One column: its title, and how its cells look."""

    title: str
    kind: Kind = "text"
    """`mark` is a word on a coloured ground, a scheme or verdict; without the ground where it begins with `no`."""


@dataclass(frozen=True)
class Table:
    """Cells as text; the page escapes them."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def table(columns: Sequence[Column | str], rows: Sequence[Sequence[str]]) -> Table:
    """A table; a column that is given as a string holds text.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    made = tuple(Column(column) if isinstance(column, str) else column for column in columns)
    for row in rows:
        if len(row) != len(made):
            raise ValueError(f"{len(made)} columns, but a row of {len(row)}: {row}")
    return Table(made, tuple(tuple(row) for row in rows))
