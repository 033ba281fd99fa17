"""A cold process, from its start to its first image, phase by phase."""

from dataclasses import dataclass

from qcompile.bench.record import Record
from qcompile.report.arms import in_order

PHASES = {
    "import": "import libraries",
    "load": "load the model",
    "prepare": "encode the prompt, prepare inputs",
    "first_step": "first step",
    "image": "the image",
}
"""Phases in their order, and what happens in them."""


@dataclass(frozen=True)
class Start:
    """One arm's start."""

    arm: str
    seconds: dict[str, float]
    """Of each phase; medians."""
    count: int
    """Fresh processes."""

    @property
    def total(self) -> float:
        """Seconds of all phases."""
        return sum(self.seconds.values())


def starts(record: Record) -> list[Start]:
    """The cold starts of a record, arms in their order.

    One step, then a whole image is in them. What is left between the end of loading and the first step is the
    preparation of its inputs. Steady steps, which older records have before the image, are no part of any phase.
    """
    return [start for arm in in_order(item.arm for item in record.measured) if (start := _start(record, arm))]


def _start(record: Record, arm: str) -> Start | None:
    names = ("start_to_first_step", "import", "load", "first_step")
    found = {name: record.find(arm, f"cold, {name}") for name in names}
    to_first_step = found["start_to_first_step"]
    if to_first_step is None or None in found.values():
        return None
    known = {name: item.value for name, item in found.items() if item is not None}
    prepare = known["start_to_first_step"] - known["import"] - known["load"] - known["first_step"]
    # Medians of phases need not add up to the median of the whole.
    seconds = {
        "import": known["import"],
        "load": known["load"],
        "prepare": max(prepare, 0.0),
        "first_step": known["first_step"],
    }
    image = record.find(arm, "cold, image")
    if image is not None:
        seconds["image"] = image.value
    return Start(arm, seconds, to_first_step.count)
