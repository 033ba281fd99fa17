"""Measured figures with their bounds, and records of them as JSON, from which tables of the documentation are made."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured figure: the median of `count` values, their extremes, and its bound if it has one."""

    name: str
    value: float
    unit: str
    low: float
    high: float
    count: int
    at_most: float | None = None
    at_least: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the bound, if any, holds."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def bound(self) -> str:
        """The bound in words; empty where there is none."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "" if self.at_least is None else f"at least {self.at_least:g}"


def figure(
    name: str, values: list[float], unit: str, at_most: float | None = None, at_least: float | None = None
) -> Figure:
    """The median of `values` with their spread."""
    return Figure(name, statistics.median(values), unit, min(values), max(values), len(values), at_most, at_least)


def write_record(path: Path, figures: Iterable[Figure], about: dict[str, Any]) -> None:
    """Write figures as JSON.

    Args:
        path: the file.
        figures: what was measured.
        about: what else is known of the measurement: command, date, environment.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    record = about | {"figures": [asdict(item) for item in figures]}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(path: Path) -> tuple[dict[str, Any], list[Figure]]:
    """What `write_record` wrote: the facts about the measurement, and the figures."""
    about = json.loads(path.read_text(encoding="utf-8"))
    return about, [Figure(**item) for item in about.pop("figures")]
