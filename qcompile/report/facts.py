"""Tables: environment, sizes, layers, every measurement."""

from collections.abc import Sequence

from qcompile.bench.record import Measured, Record
from qcompile.environment import Environment
from qcompile.report.arms import Words
from qcompile.report.content import Content
from qcompile.report.layers import Action, Group, bytes_by_scheme
from qcompile.report.quantities import number, quantity, scale
from qcompile.report.table import Column, Table, table

NONE = "–"
_FIELDS = {
    "gpu": "GPU",
    "capability": "compute capability",
    "device": "device",
    "machine": "processor",
    "system": "system",
    "python": "Python",
    "torch": "torch",
    "torchao": "torchao",
    "diffusers": "diffusers",
    "triton": "triton",
    "cuda": "CUDA",
}
MEASURED_ONLY = ("processor, where measured", "cores, where measured")
_ISA = "instruction sets"
_SHARED = (*_FIELDS.values(), _ISA)
"""Machines that differ in one of these are two."""


def environments(content: Content) -> Table:
    """Where the artifact was made, and where it was measured; environments that are the same share a column."""
    found: dict[str, dict[str, str]] = {"made": _environment(content.manifest.environment)}
    if content.bench:
        found["measured"] = _environment(content.bench.environment) | {
            "processor, where measured": _shown(content.bench.processor),
            "cores, where measured": str(content.bench.cpus),
        }
    if content.verification:
        found["verified"] = _environment(content.verification.environment)
    columns: list[tuple[list[str], dict[str, str]]] = []
    for name, values in found.items():
        same = next((column for column in columns if all(values[key] == column[1][key] for key in _SHARED)), None)
        if same is None:
            columns.append(([name], dict(values)))
        else:
            same[0].append(name)
            same[1].update(values)
    fields = [*_FIELDS.values(), *MEASURED_ONLY]
    rows = [(field, *(values.get(field, NONE) for _, values in columns)) for field in fields]
    titles = [f"{', '.join(names[:-1])} and {names[-1]} on" if names[1:] else f"{names[0]} on" for names, _ in columns]
    return table(["", *titles], [row for row in rows if set(row[1:]) != {NONE}])


def _environment(environment: Environment) -> dict[str, str]:
    found = {words: _shown(getattr(environment, field)) for field, words in _FIELDS.items()}
    return found | {_ISA: " ".join(environment.cpu_isa)}


def instruction_sets(content: Content) -> str:
    """Those of the processor that the artifact was made on; packages for a CPU need them."""
    return " ".join(content.manifest.environment.cpu_isa)


def _shown(value: object) -> str:
    return NONE if value is None else str(value)


def components(content: Content) -> Table:
    """Weights of each component before and after."""
    rows = [
        (name, item.class_name, quantity(item.bytes_before, "bytes"), quantity(item.bytes_after, "bytes"))
        for name, item in content.manifest.components.items()
    ]
    return table(
        [Column("component", "code"), Column("class", "code"), Column("before", "number"), Column("after", "number")],
        rows,
    )


def packages(content: Content) -> Table:
    """Compiled code of the artifact."""
    manifest = content.manifest
    rows = [
        (
            package.component,
            package.block,
            str(len(package.layers)),
            ", ".join(package.shapes),
            quantity(manifest.files[package.file].bytes, "bytes") if package.file in manifest.files else NONE,
            quantity(package.build_seconds, "s"),
            number(max(package.relative_errors.values())) if package.relative_errors else NONE,
        )
        for package in manifest.packages
    ]
    return table(
        [
            Column("component", "code"),
            Column("block", "code"),
            Column("layers", "number"),
            Column("shapes", "code"),
            Column("size", "number"),
            Column("build", "number"),
            Column("error against eager", "number"),
        ],
        rows,
    )


def layers(groups: Sequence[Group]) -> dict[str, Table]:
    """The layer map, one table a component."""
    return {
        component: _layers([group for group in groups if group.component == component])
        for component in dict.fromkeys(group.component for group in groups)
    }


def _layers(groups: Sequence[Group]) -> Table:
    rows = [
        (
            ", ".join(group.layers),
            str(group.count),
            group.scheme or f"no: {group.reason}",
            ", ".join(map(str, group.rows)) or NONE,
            " → ".join(map(str, group.features)) if group.features else NONE,
            _before_after(group.bytes_before, group.bytes_after),
        )
        for group in groups
    ]
    return table(
        [
            Column("layers", "code"),
            Column("count", "number"),
            Column("scheme, or why not", "mark"),
            Column("rows", "number"),
            Column("in → out", "number"),
            Column("weights", "number"),
        ],
        rows,
    )


def schemes(groups: Sequence[Group]) -> Table:
    """How much each scheme holds."""
    rows = [
        (name, str(count), quantity(before, "bytes"), quantity(after, "bytes"))
        for name, (count, before, after) in bytes_by_scheme(groups).items()
    ]
    return table(
        [Column("scheme", "mark"), Column("layers", "number"), Column("before", "number"), Column("after", "number")],
        rows,
    )


def actions(found: Sequence[Action]) -> Table:
    """What the other steps did."""
    rows = [
        (f"{item.step}: {item.kind}", f"{item.component}: {', '.join(item.layers)}", str(item.count), item.action)
        for item in found
    ]
    return table(["step", Column("modules", "code"), Column("count", "number"), "what was done"], rows)


def _before_after(before: int, after: int) -> str:
    """Both in one unit, so that they can be compared at a glance."""
    if before == after:
        return quantity(before, "bytes")
    divisor, unit = scale("bytes", max(before, after))
    return f"{number(before / divisor)} → {number(after / divisor)} {unit}"


def measurements(items: Sequence[Measured], words: Words) -> Table:
    """Quantities with their spread."""
    rows = [
        (
            "the machine" if item.arm == "machine" else words(item.arm),
            item.metric.replace("_", " "),
            item.shape or NONE,
            quantity(item.value, item.unit),
            quantity(item.low, item.unit),
            quantity(item.high, item.unit),
            str(item.count),
        )
        for item in items
    ]
    numbers = [Column(title, "number") for title in ("median", "from", "to", "values")]
    return table(["arm", "what", Column("shape", "code"), *numbers], rows)


def ratios(record: Record, words: Words) -> Table:
    """Every ratio of the record."""
    rows = [
        (
            f"{words(item.arm)} / {words(item.over)}",
            item.metric.replace("_", " "),
            item.shape or NONE,
            number(item.value),
            number(item.low),
            number(item.high),
            str(item.count),
        )
        for item in record.ratios
    ]
    numbers = [Column(title, "number") for title in ("median", "from", "to", "rounds")]
    return table(["ratio", "what", Column("shape", "code"), *numbers], rows)
