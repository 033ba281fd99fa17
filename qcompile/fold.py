"""Many dotted names that differ only in their indices, as few: `transformer_blocks.{0..18}.attn.to_q`."""

from collections.abc import Iterable

Part = str | tuple[int, ...]
"""One part of a dotted name; indices that were folded are a sorted tuple."""


def fold(names: Iterable[str]) -> list[tuple[str, int]]:
    """Fold names over their numeric parts.

    Returns:
        (folded name, how many names it stands for) in the order in which the first of each came.
    """
    rows: list[tuple[Part, ...]] = [
        tuple((int(part),) if part.isdecimal() else part for part in name.split(".")) for name in names
    ]
    for position in range(max(map(len, rows), default=0)):
        rows = _fold_at(rows, position)
    return [(".".join(map(_text, row)), _count(row)) for row in rows]


def _fold_at(rows: list[tuple[Part, ...]], position: int) -> list[tuple[Part, ...]]:
    """Merge rows that are equal but for indices at `position`."""
    merged: dict[tuple[object, ...], tuple[Part, ...]] = {}
    for row in rows:
        if position >= len(row) or isinstance(row[position], str):
            merged[("", *row)] = row
            continue
        key = (*row[:position], None, *row[position + 1 :])
        known = merged.get(key)
        indices = {*row[position], *(known[position] if known else ())}
        merged[key] = (*row[:position], tuple(sorted(int(index) for index in indices)), *row[position + 1 :])
    return list(merged.values())


def _text(part: Part) -> str:
    if isinstance(part, str):
        return part
    runs: list[list[int]] = []
    for index in part:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs]
    return texts[0] if len(part) == 1 else f"{{{','.join(texts)}}}"


def _count(row: tuple[Part, ...]) -> int:
    count = 1
    for part in row:
        count *= 1 if isinstance(part, str) else len(part)
    return count
