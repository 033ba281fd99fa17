"""Measure an artifact beside its original: steps, images, cold starts, memory, and the machine's limit.

Arms are timed in turn on the same inputs. A recipe is applied first, into a temporary folder unless --out is given.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from qcompile.cli.options import add_json, add_recipe_options, at_least_one, path
from qcompile.cli.table import megabytes, table
from qcompile.errors import MachineError, PlanError

if TYPE_CHECKING:
    from qcompile.bench.record import Record
    from qcompile.bench.run import Options
    from qcompile.progress import Progress

INTERRUPTED = 130
BY_SIGNAL = 128
"""Plus the signal's number: the exit code of what a signal ended."""
MEASURED = "recipes/measured"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", metavar="ARTIFACT|RECIPE", nargs="?", help="artifact folder, or recipe file")
    parser.add_argument(
        "--arms", metavar="A,B", type=_names, default=(), help="what to time; by default all that can run here"
    )
    parser.add_argument(
        "--against",
        metavar="ARTIFACT",
        action="extend",
        nargs="+",
        default=[],
        type=Path,
        help="other artifacts to hold it against",
    )
    parser.add_argument(
        "--steps", metavar="N", type=at_least_one, default=50, help="timed steps of each arm (default: 50)"
    )
    parser.add_argument(
        "--images", metavar="N", type=int, default=3, help="timed images of each arm (default: 3; 0: none)"
    )
    parser.add_argument(
        "--cold-starts", metavar="N", type=int, default=1, help="fresh processes of each arm (default: 1; 0: none)"
    )
    parser.add_argument(
        "--cold-arms",
        metavar="A,B",
        type=_names,
        default=(),
        help="arms that get fresh processes, jit_from_original (the recipe carried out at every start) among them; by "
        "default all of them",
    )
    parser.add_argument("--no-limits", action="store_true", help="leave out the ceilings of the machine")
    parser.add_argument("--usd-per-hour", metavar="PRICE", type=float, help="price of the machine, for costs of images")
    parser.add_argument("--out", metavar="DIR", type=path, help="with a recipe: keep the artifact here")
    parser.add_argument(
        "--note", metavar="TEXT", action="append", default=[], help="for the record: what a reader must know"
    )
    parser.add_argument(
        "--record",
        metavar="PATH",
        nargs="?",
        const=MEASURED,
        help="write the record: a file NAME.json, or a folder that gets RECIPE.DEVICE.json (default: recipes/measured)",
    )
    add_recipe_options(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Measure, print, and write the record."""
    from qcompile.cli.imports import heavy_imports
    from qcompile.cli.progress import shown

    _settle_source(options)
    if options.images < 0 or options.cold_starts < 0:
        raise PlanError("--images and --cold-starts: 0 leaves them out; negative numbers mean nothing.")
    if options.usd_per_hour is not None and not 0 < options.usd_per_hour < math.inf:
        raise PlanError(f"--usd-per-hour {options.usd_per_hour}: give a price above 0.")
    if options.usd_per_hour and not options.images:
        raise PlanError("--usd-per-hour: costs are those of images, which --images 0 leaves out. Drop one of the two.")
    if options.cold_arms and not options.cold_starts:
        raise PlanError(
            f"--cold-arms {','.join(options.cold_arms)}: no arm gets fresh processes with --cold-starts 0. Drop one of "
            "the two."
        )
    with heavy_imports():
        from qcompile.bench.record import check_target
        from qcompile.bench.run import Options, bench
    if options.record:
        check_target(Path(options.record))
    command = shlex.join(["qcompile", *sys.argv[1:]])
    chosen = Options(
        arms=options.arms,
        against=tuple(options.against),
        rounds=options.steps,
        images=options.images,
        cold_starts=options.cold_starts,
        cold_arms=options.cold_arms,
        limits=not options.no_limits,
        usd_per_hour=options.usd_per_hour,
        device=options.device,
        record=Path(options.record) if options.record else None,
        notes=tuple(options.note),
    )
    found: list[tuple[Record, bool]] = []
    with ExitStack() as signals:
        try:
            with tempfile.TemporaryDirectory() as temporary, shown(silently=options.json) as progress:
                folder, chosen = _artifact(options, chosen, Path(temporary), progress)
                came = signals.enter_context(_ending_as_interrupted())
                record, interrupted = bench(folder, chosen, command, progress, lambda half: found.append((half, False)))
                found.append((record, not interrupted and bool(record.arms)))
        finally:
            # While an error may be on its way: one that ended the run, or that of a terminal which is gone.
            for kept, whole in found:
                _give(kept, chosen, options.json, whole)
    if not interrupted and not record.arms:
        raise MachineError("no arm gave anything; the reasons are listed above, and in the record under `absent`.")
    return BY_SIGNAL + came[0] if came else INTERRUPTED if interrupted else 0


def _give(record: Record, chosen: Options, as_json: bool, whole: bool) -> None:
    """Print a record and write it."""
    from qcompile.bench.record import keep, place_of
    from qcompile.record_file import encodable

    try:
        # First, so that a full disk does not take what was measured.
        print(record.model_dump_json(indent=1) if as_json else text(record), flush=True)
    finally:
        # And whatever became of that: the reader of a pipe may have gone.
        if chosen.record:
            place = place_of(chosen.record, record.recipe, record.environment, record.processor)
            target = keep(record, place, whole)
    if chosen.record and not as_json:
        left = f", and {place} is left as it was" if target != place and place.exists() else ""
        print(encodable(f"\nrecord: {target}{left}"))


def _names(text: str) -> tuple[str, ...]:
    """Argparse type of `A,B`.

    Raises:
        ArgumentTypeError: there is no name in it.
    """
    names = tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if not names:
        # It may be a variable of a script that is empty; all arms take hours.
        raise argparse.ArgumentTypeError(f"{text!r} names no arm; name some, or leave the option out for all")
    return names


def _settle_source(options: argparse.Namespace) -> None:
    """What --record took for its place although it is what to measure, since nothing else is."""
    if options.source is None and options.record:
        record = Path(options.record)
        if record.suffix in (".yaml", ".yml") or (record / "qcompile.json").exists():
            options.source, options.record = options.record, MEASURED
    if options.source is None:
        raise PlanError(
            "nothing is named that could be measured. Name an artifact or a recipe before the options: qcompile bench "
            "ARTIFACT --against OTHER --record."
        )


@contextmanager
def _ending_as_interrupted() -> Iterator[list[int]]:
    """What was measured is kept as well where the system asks the process to end, or its terminal is gone.

    Gives the signal that came, if one did, which the exit code tells.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        # Once: a connection that drops sends two, and the second would come while the record is written.
        signal.signal(number, signal.SIG_IGN)
        came.append(number)
        raise KeyboardInterrupt

    # Under nohup it is ignored, and the run goes on without its terminal.
    kinds = [kind for kind in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(kind) is not signal.SIG_IGN]
    before = {kind: signal.signal(kind, interrupt) for kind in kinds}
    try:
        yield came
    except KeyboardInterrupt:
        if came:
            sys.exit(BY_SIGNAL + came[0])
        raise
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _artifact(
    options: argparse.Namespace, chosen: Options, temporary: Path, progress: Progress
) -> tuple[Path, Options]:
    """The artifact to measure; the options know how it was made, where that is done here."""
    source = Path(options.source)
    if source.suffix not in (".yaml", ".yml"):
        if options.overrides or options.model:
            raise PlanError(f"{source} is an artifact: --set and --model go with a recipe, which is applied first.")
        if options.out:
            raise PlanError(f"{source} is an artifact: --out goes with a recipe, which is applied first.")
        return source, chosen
    from qcompile import recipe as recipes
    from qcompile.bench.faults import release_memory
    from qcompile.bench.peaks import Peaks
    from qcompile.bench.run import check
    from qcompile.devices import resolve_device
    from qcompile.runner import apply

    recipe = recipes.read(source, options.overrides, options.model)
    device = resolve_device(options.device)
    check(chosen, recipe, device)
    watch = Peaks(progress, device)
    target = Path(options.out) if options.out else temporary / recipe.name
    apply(recipe, out=target, device=options.device, progress=watch)
    # The processes that are started next need the GPU's memory for themselves.
    release_memory()
    return target, dataclasses.replace(chosen, built=watch.seconds, built_peak_gpu_bytes=watch.peak_gpu_bytes)


def text(record: Record) -> str:
    """A record as people read it."""
    environment = record.environment
    where = environment.gpu or f"{record.cpus} cores of {record.processor or environment.machine}"
    sizes = f"{megabytes(record.bytes_before)} -> {megabytes(record.bytes_after)}"
    parts = [
        f"{record.recipe} version {record.recipe_version} on {where}, torch {environment.torch}: weights {sizes}, "
        f"packages {megabytes(record.package_bytes)}",
        table(
            [
                ("arm", "what", "shape", "median", "", "from", "to", "n"),
                *(
                    (
                        item.arm,
                        item.metric,
                        item.shape,
                        *_value(item.value, item.unit),
                        _value(item.low, item.unit)[0],
                        _value(item.high, item.unit)[0],
                        str(item.count),
                    )
                    for item in record.measured
                ),
            ],
            right=(3, 5, 6, 7),
        ),
    ]
    if record.ratios:
        rows: list[tuple[str, ...]] = [("ratio", "what", "shape", "median", "from", "to", "n")]
        rows += [
            (
                f"{item.arm} / {item.over}",
                item.metric,
                item.shape,
                *(f"{value:.3f}" for value in (item.value, item.low, item.high)),
                str(item.count),
            )
            for item in record.ratios
        ]
        parts.append(table(rows, right=(3, 4, 5, 6)))
    parts += [f"left out: {name}: {reason}" for name, reason in record.absent.items()]
    parts += [f"note: {note}" for note in record.notes]
    return "\n\n".join(parts)


def _value(value: float, unit: str) -> tuple[str, str]:
    if unit == "bytes":
        return f"{value / 1e6:,.1f}", "MB"
    return f"{value:,.3f}" if value < 100 else f"{value:,.1f}", unit
