"""What a run of the benchmark has found so far: all that is left when it is interrupted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qcompile.bench.record import Measured, Ratio, measured, ratio

RATIOS = (
    ("aot", "jit"),
    ("aot_graphs", "jit"),
    ("aot", "jit_bf16"),
    ("jit_bf16", "aot"),
    ("aot", "eager"),
    ("eager", "aot"),
    ("jit", "jit_bf16"),
    ("aot", "eager_quantized"),
    ("jit_bf16", "eager"),
    ("eager", "jit_bf16"),
    ("eager_quantized", "eager"),
)
"""(arm, over) of the ratios reported, where both were measured."""


@dataclass
class Found:
    """Collects what a `Record` holds."""

    measured: list[Measured] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    step_ms: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Every timed step, by shape label and arm."""
    interrupted: bool = False

    def add(self, arm: str, metric: str, values: Sequence[float], unit: Any, shape: str = "") -> None:
        """Take down a quantity, where there are values of it."""
        if values:
            self.measured.append(measured(arm, metric, list(values), unit, shape))

    def leave_out(self, arm: str, reason: str, what: str = "") -> None:
        """Take down that an arm gave nothing, or that it did not give `what`, such as `step at 512x512_b1`."""
        self.absent[f"{arm}, {what}" if what else arm] = reason

    def compare(
        self, metric: str, values: Mapping[str, Sequence[float]], shape: str, against: Sequence[str] = ()
    ) -> None:
        """Take down the ratios of arms that were timed in turn.

        Args:
            metric: what was timed.
            values: of each round, by arm.
            shape: label of the declared shape.
            against: arms that are other artifacts; every arm of this one is held against them.
        """
        own = [name for name in values if name not in against]
        for mine, theirs in (*RATIOS, *((arm, name) for arm in own for name in against)):
            self.compare_two(metric, mine, theirs, values, shape)

    def compare_two(
        self, metric: str, arm: str, over: str, values: Mapping[str, Sequence[float]], shape: str = ""
    ) -> None:
        """Take down one ratio, where both arms have values."""
        above, below = values.get(arm), values.get(over)
        if above and below:
            whole = min(len(above), len(below))
            self.ratios.append(ratio(arm, over, metric, list(above[:whole]), list(below[:whole]), shape))
