"""What autoquant decided, and why: the explicit recipe and the table of measurements."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from qcompile.autoquant.decide import TAKEN, Decision, Timing
from qcompile.autoquant.survey import LinearShape, Survey
from qcompile.document import Document
from qcompile.recipe import Recipe, from_document
from qcompile.steps.autoquant import NONE


@dataclass(frozen=True)
class Measurement:
    """One scheme for all layers of one shape; `shape` is None for a scheme that this machine can't run at all."""

    shape: LinearShape | None
    scheme: str
    num_layers: int
    """Layers of this shape among those to choose for."""
    num_taken: int
    """Those of them that get the scheme."""
    timing: Timing | None
    """Of one compiled call."""
    sqnr_db: float | None
    """Worst of these layers, in dB."""
    verdict: str


@dataclass(frozen=True)
class Resolution:
    """An explicit recipe, and the measurements it comes from."""

    recipe: Recipe
    """Names a scheme for every layer; applying it measures nothing."""
    measurements: tuple[Measurement, ...] = ()
    machine: str = ""
    """Device, versions and compiler options."""
    date: str = ""
    """When it was measured: `2026-01-31`."""
    notes: tuple[str, ...] = ()
    """What else people should know: a cache that can't be used, what there was no time for."""

    def table(self) -> list[tuple[str, ...]]:
        """The measurements as cells, headings first."""
        return [
            ("rows x in -> out", "layers", "scheme", "median us", "spread us", "worst SQNR dB", "verdict"),
            *(_cells(row) for row in self.measurements),
        ]

    def to_yaml(self) -> str:
        """The explicit recipe with a comment that says where it comes from."""
        return self.comment() + self.recipe.to_yaml()

    def comment(self) -> str:
        """Where the recipe comes from, as lines of YAML comment; empty where nothing was measured."""
        if not self.measurements:
            return ""
        lines = [f"Resolved by qcompile's autoquant on {self.date}.", f"Measured on {self.machine}", *self.notes, ""]
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        # Texts of backends, of the cache's file and of paths come in here: a line break in one would end the comment.
        return "".join(f"# {' '.join(line.splitlines())}".rstrip() + "\n" for line in lines)

    def document(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "recipe": self.recipe.data,
            "yaml": self.to_yaml(),
            "machine": self.machine,
            "date": self.date,
            "notes": list(self.notes),
            "measurements": [_plain(row) for row in self.measurements],
        }


def renamed(recipe: Recipe, name: str) -> Recipe:
    """The same recipe under another name."""
    return from_document(Document(recipe.data | {"name": name}, f"{name}.yaml"))


def explicit(recipe: Recipe, chosen: Mapping[int, Mapping[str, str]]) -> Recipe:
    """Replace autoquant steps by one quantize step for each scheme, with the names of its layers.

    Args:
        chosen: index of an autoquant step -> layer -> scheme; layers that stay as they are have no entry.
    """
    entries: list[Any] = []
    for index, entry in enumerate(recipe.data["steps"]):
        if index not in chosen:
            entries.append(entry)
            continue
        for scheme in dict.fromkeys(chosen[index].values()):
            names = [name for name, taken in chosen[index].items() if taken == scheme]
            options = {"component": recipe.steps[index].owner, "scheme": scheme, "layers": {"include": names}}
            entries.append({"quantize": options})
    return from_document(Document(recipe.data | {"steps": entries}, f"{recipe.name} (resolved)"))


def measurements_of(
    found: Survey,
    timings: Mapping[LinearShape, Mapping[str, Timing]],
    decisions: Mapping[str, Decision],
    schemes: Iterable[str],
) -> list[Measurement]:
    """One row for each shape and scheme, `none` first."""
    rows = []
    for shape in dict.fromkeys(shape for calls in found.calls.values() for shape in calls):
        layers = [name for name, calls in found.calls.items() if shape in calls]
        for scheme in (NONE, *schemes):
            taken = [name for name in layers if decisions[name].scheme == scheme]
            verdicts = Counter(decisions[name].verdicts.get(scheme, "") for name in layers)
            rows.append(
                Measurement(
                    shape=shape,
                    scheme=scheme,
                    num_layers=len(layers),
                    num_taken=len(taken),
                    timing=timings.get(shape, {}).get(scheme),
                    sqnr_db=min(
                        (found.sqnr_db[name, scheme] for name in layers if (name, scheme) in found.sqnr_db),
                        default=None,
                    ),
                    verdict=_verdict(scheme, verdicts, len(taken), len(layers)),
                )
            )
    return rows


def _verdict(scheme: str, verdicts: Counter[str], num_taken: int, num_layers: int) -> str:
    others = [verdict for verdict, _ in verdicts.most_common() if verdict not in (TAKEN, "")]
    taken = TAKEN if num_taken == num_layers else f"{TAKEN} for {num_taken} of {num_layers}"
    return "; ".join([taken, *others] if num_taken else others) or ("" if scheme == NONE else "-")


def _cells(row: Measurement) -> tuple[str, ...]:
    timing = row.timing
    return (
        str(row.shape) if row.shape else "any",
        str(row.num_layers) if row.shape else "-",
        row.scheme,
        f"{timing.median_us:.1f}" if timing else "-",
        f"{timing.spread_us:.1f}" if timing else "-",
        f"{row.sqnr_db:.1f}" if row.sqnr_db is not None else "-",
        row.verdict,
    )


def _plain(row: Measurement) -> dict[str, Any]:
    """JSON has no infinities: an SQNR of equal outputs is `inf` there."""
    data = asdict(replace(row, timing=None))
    timing = row.timing
    return data | {
        "shape": asdict(row.shape) if row.shape else None,
        "timing": asdict(timing) if timing else None,
        "sqnr_db": row.sqnr_db if row.sqnr_db is None or abs(row.sqnr_db) != float("inf") else str(row.sqnr_db),
    }
