"""The ratios at the top: what was gained, each beside what the control gains."""

from dataclasses import dataclass

from qcompile.artifact.manifest import Manifest
from qcompile.bench.record import Ratio, Record
from qcompile.report.arms import CONTROL, SUBJECTS, Words, words_of
from qcompile.report.layers import has_quantized, layer_map
from qcompile.report.quantities import number, or_infinity, quantity, scale, spread
from qcompile.verify.record import VerificationRecord

START = "as fast from the start of a process to its first step"


@dataclass(frozen=True)
class Headline:
    """One figure in large print."""

    value: str
    what: str
    spread: str
    """From where to where, of how many values."""
    control: str
    """The same of the control; empty where the figure is itself against the control."""


def headlines(record: Record | None, verified: VerificationRecord | None, manifest: Manifest) -> list[Headline]:
    """The figures at the top, as far as they were measured. Ratios are those the record holds, never computed anew."""
    found = []
    if record is not None:
        words = words_of(has_quantized(layer_map(manifest.changes)))
        found += [*_steps(record, words), *_first_step(record), *_start(record, words), *_memory(record, words)]
    before = sum(item.bytes_before for item in manifest.components.values())
    after = sum(item.bytes_after for item in manifest.components.values())
    if before:
        found.append(
            Headline(
                _times(after / before),
                "the size of the original's weights",
                f"{quantity(before, 'bytes')} → {quantity(after, 'bytes')}",
                "control: 1×, compiling leaves weights as they are",
            )
        )
    return [*found, *(_quality(verified) if verified else [])]


def subject_of(record: Record) -> str | None:
    """The arm that the report is about."""
    return next((arm for arm in SUBJECTS if record.find(arm, "step")), None)


def _steps(record: Record, words_of_arm: Words) -> list[Headline]:
    subject = subject_of(record)
    if subject is None:
        return []
    found = []
    shapes = list(dict.fromkeys(item.shape for item in record.measured if (item.arm, item.metric) == (subject, "step")))
    shape, where = shapes[0], f" at {shapes[0]}" if shapes[1:] else ""
    for base, words in ((CONTROL, "the compiled original"), ("eager", "the eager original")):
        control = "measured against the control itself" if base == CONTROL else _control_step(record, shape)
        faster, share = record.ratio(base, subject, shape=shape), record.ratio(subject, base, shape=shape)
        step = f"a step{where}, {words_of_arm(subject)}: "
        if faster is not None:
            found.append(Headline(_times(faster.value), f"as fast as {words}", step + _rounds(faster), control))
        elif share is not None:
            found.append(Headline(_times(share.value), f"of the time of {words}", step + _rounds(share), control))
    return found


def _control_step(record: Record, shape: str) -> str:
    """What compiling alone gains over the eager original."""
    faster, share = record.ratio("eager", CONTROL, shape=shape), record.ratio(CONTROL, "eager", shape=shape)
    if faster is not None:
        return f"control: compiling alone is {_times(faster.value)} as fast"
    return (
        "control: not measured" if share is None else f"control: compiling alone takes {_times(share.value)} the time"
    )


def _first_step(record: Record) -> list[Headline]:
    ratio = record.ratio("jit", "aot", "cold, first_step")
    if ratio is None:
        return []
    control = record.find(CONTROL, "cold, first_step")
    mine = record.find("aot", "cold, first_step")
    words = f"control: {quantity(control.value, 's')}" if control else "control: not measured"
    here = f", this: {quantity(mine.value, 's')}" if mine else ""
    what = "as fast as torch.compile of the same weights"
    return [Headline(_times(ratio.value), what, f"first step of a new process: {_rounds(ratio)}", words + here)]


def _start(record: Record, words: Words) -> list[Headline]:
    """The whole way to the first step, against quantizing and compiling at every start where that was measured."""
    metric = "cold, start_to_first_step"
    for arm in ("jit_from_original", "jit"):
        ratio = record.ratio(arm, "aot", metric)
        if ratio is not None:
            seconds = {"control": record.find(CONTROL, metric), "this": record.find("aot", metric)}
            known = [f"{who}: {quantity(item.value, 's')}" for who, item in seconds.items() if item]
            missing = [] if seconds["control"] else ["control: not measured"]
            around = f"against {words(arm)}: {_rounds(ratio)}"
            return [Headline(_times(ratio.value), START, around, ", ".join([*missing, *known]))]
    return []


def _memory(record: Record, words_of_arm: Words) -> list[Headline]:
    subject = subject_of(record)
    for metric, words in (("peak_gpu", "peak GPU memory"), ("peak_cpu", "peak memory of the process")):
        mine = record.find(subject, metric) if subject else None
        base = record.find("eager", metric)
        if mine is None:
            continue
        control = record.find(CONTROL, metric)
        beside = [f"control: {quantity(control.value, 'bytes')}"] if control else ["control: not measured"]
        beside += [f"eager original: {quantity(base.value, 'bytes')}"] if base else []
        divisor, unit = scale("bytes", mine.high)
        around = spread(mine.low / divisor, mine.high / divisor, mine.count, "cold start", unit)
        return [
            Headline(quantity(mine.value, "bytes"), words, f"{words_of_arm(mine.arm)}: {around}", ", ".join(beside))
        ]
    return []


def _quality(record: VerificationRecord) -> list[Headline]:
    worst = {arm.name: max(map(or_infinity, arm.step_errors)) for arm in record.arms if arm.step_errors}
    mine, arm = worst.get("artifact"), record.arm("artifact")
    if mine is None or arm is None:
        return []
    control = f"control: {number(worst['control'])}" if "control" in worst else f"no control: {record.no_control}"
    what = "relative error of the worst call along the original's trajectory"
    return [Headline(number(mine), what, f"{len(arm.step_errors)} calls", control)]


def _rounds(ratio: Ratio) -> str:
    return spread(ratio.low, ratio.high, ratio.count, "round")


def _times(value: float) -> str:
    """`1.37×`, `56×`."""
    return f"{value:.2f}×" if 0.1 <= value < 10 else f"{number(value).removesuffix('.0')}×"
