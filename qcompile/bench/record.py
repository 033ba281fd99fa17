"""What `qcompile bench` measured, as one JSON file: `recipes/measured/RECIPE.DEVICE.json`."""

import re
import statistics
from pathlib import Path
from typing import Any, Literal

import pydantic

from qcompile.environment import Environment
from qcompile.record_file import (
    RecipeRun,
    Text,
    check_record_file,
    check_record_folder,
    read_record_file,
    write_record_file,
)

_RECORD = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
COMMAND = "qcompile bench"


class Measured(pydantic.BaseModel):
    """One quantity of one arm: the median of `count` values and their extremes."""

    model_config = _RECORD

    arm: Text
    """Arm; `machine` for what the machine can do at best, `build` for the artifact's making, `artifact` and `original`
    for bytes on the disk."""
    metric: str
    """What it is: `step`, `image`, `load`, …"""
    unit: Literal["ms", "s", "bytes", "TFLOP/s", "GB/s", "image/s", "USD/1000 images"]
    """Unit of the values."""
    shape: str = ""
    """Label of the declared shape; empty where it does not matter."""
    value: pydantic.FiniteFloat
    """Median."""
    low: pydantic.FiniteFloat
    """Smallest value."""
    high: pydantic.FiniteFloat
    """Largest value."""
    count: int
    """How many values."""


class Ratio(pydantic.BaseModel):
    """One arm's figure over another's: the median of each round's ratio, so that drift of the machine cancels.

    Where there is one figure and no rounds, of the machine's limit and of memory, it stands in every round.
    """

    model_config = _RECORD

    metric: str
    """What is compared: `step`, `image`, …"""
    arm: Text
    """The arm above the line."""
    over: Text
    """The arm below it."""
    shape: str = ""
    """Label of the declared shape."""
    value: pydantic.FiniteFloat
    """Median of the ratios."""
    low: pydantic.FiniteFloat
    """Smallest."""
    high: pydantic.FiniteFloat
    """Largest."""
    count: int
    """Rounds."""


class Record(RecipeRun):
    """One run of the benchmark."""

    model: Text | None
    """The model's id."""
    processor: str | None = None
    """Name of the processor; null where the system does not tell it, and in older records."""
    cpus: int
    """Processor cores."""
    bytes_before: int
    """Weights of the original."""
    bytes_after: int
    """Weights of the artifact."""
    package_bytes: int
    """Compiled code of the artifact."""
    measured: tuple[Measured, ...]
    """Every quantity."""
    ratios: tuple[Ratio, ...]
    """Ratios of arms that took turns, of the machine's limit to each, and of memory."""
    absent: dict[Text, Text]
    """What arms did not give, and why: out of memory, no such hardware, no compiler. `ARM` gave nothing; `ARM, METRIC
    at SHAPE` gave all else."""
    notes: tuple[Text, ...]
    """What a reader must know: throttling seen, weights that are random."""

    @property
    def arms(self) -> set[str]:
        """Arms whose steps or starts were measured."""
        return {item.arm for item in self.measured if item.metric == "step" or item.metric.startswith("cold, ")}

    def find(self, arm: str, metric: str, shape: str | None = None) -> Measured | None:
        """The first quantity of that arm and name."""
        return next(
            (
                item
                for item in self.measured
                if (item.arm, item.metric) == (arm, metric) and shape in (None, item.shape)
            ),
            None,
        )

    def ratio(self, arm: str, over: str, metric: str = "step", shape: str | None = None) -> Ratio | None:
        """The first ratio of two arms, of one shape where it is named."""
        return next(
            (
                item
                for item in self.ratios
                if (item.arm, item.over, item.metric) == (arm, over, metric) and shape in (None, item.shape)
            ),
            None,
        )


def measured(arm: str, metric: str, values: list[float], unit: Any, shape: str = "") -> Measured:
    """The median and extremes of `values`."""
    return Measured(arm=arm, metric=metric, unit=unit, shape=shape, **_spread(values))


def ratio(arm: str, over: str, metric: str, above: list[float], below: list[float], shape: str = "") -> Ratio:
    """The median and extremes of each round's ratio."""
    values = [mine / theirs for mine, theirs in zip(above, below, strict=True)]
    return Ratio(metric=metric, arm=arm, over=over, shape=shape, **_spread(values))


def _spread(values: list[float]) -> dict[str, Any]:
    return {"value": statistics.median(values), "low": min(values), "high": max(values), "count": len(values)}


def file_name(record: Record) -> str:
    """`flux_int8.nvidia-h200.json`, `flux_int8.cpu-amd-epyc.json`: the device is the GPU, or else the processor."""
    return _file_name(record.recipe, record.environment, record.processor)


def _file_name(recipe: str, environment: Environment, processor: str | None) -> str:
    processor = re.sub(r"\((R|TM)\)| CPU\b| @.*", "", processor or environment.machine, flags=re.I)
    device = environment.gpu or f"cpu-{processor}"
    return f"{recipe}.{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"


def place_of(path: Path, recipe: str, environment: Environment, processor: str | None) -> Path:
    """The file of a record: `path` itself where it is a name of one, NAME.json, or else RECIPE.DEVICE.json in it."""
    return path if path.suffix == ".json" else path / _file_name(recipe, environment, processor)


def keep(record: Record, path: Path, whole: bool) -> Path:
    """Write a record; one that is not whole under NAME.interrupted, where nobody takes it for a whole one.

    Args:
        record: what was measured.
        path: file NAME.json.
        whole: whether it holds all that was asked for.

    Returns:
        The file that was written.

    Raises:
        MachineError, ArtifactError: as `write_record_file`.
    """
    target = path if whole else path.with_suffix(".interrupted")
    write(record, target)
    return target


def schema() -> dict[str, Any]:
    """The JSON schema of records, for `serialization/record.schema.json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Record.model_json_schema(),
        "title": "qcompile bench record",
    }


def check_target(path: Path) -> None:
    """Refuse a file or folder that no record can be written to, before hours are spent on it.

    Args:
        path: a file NAME.json, or a folder, which need not be there.

    Raises:
        ArtifactError: as `check_record_file`.
    """
    if path.suffix == ".json":
        check_record_file(Record, path, COMMAND)
    else:
        check_record_folder(path, path)


def write(record: Record, path: Path) -> None:
    """Write a record to a file; see `write_record_file`."""
    write_record_file(record, path, COMMAND)


def read(path: Path) -> Record:
    """Read what `write` wrote.

    Raises:
        ModelError: the file is missing or no record.
    """
    return read_record_file(Record, path, COMMAND)
