"""Measure how far an artifact is from its original, beside what compiling the original alone changes.

Every arm is run on the same inputs: the denoiser at each step along the original's own trajectory, then whole images of
the same prompts and seeds. Ends with 1 where a bound of the artifact's recipe does not hold.
"""

from __future__ import annotations

import argparse
import datetime
import math
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qcompile.cli.options import add_device, add_json, at_least_one
from qcompile.cli.table import megabytes, plural, table

if TYPE_CHECKING:
    from qcompile.verify.report import Arm, Report


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="folder that `qcompile apply` wrote")
    parser.add_argument(
        "--prompts",
        metavar="N",
        type=at_least_one,
        help="images each arm paints, always the same ones (default: 8; 101 where the task score has a bound)",
    )
    parser.add_argument(
        "--no-control", action="store_false", dest="control", help="leave out the arm that compiles the original"
    )
    parser.add_argument(
        "--bound",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=_bound,
        dest="bounds",
        help="in place of the recipe's, for example max_step_error=0.05; may be repeated",
    )
    parser.add_argument("--sensitivity", action="store_true", help="what the layers of each role add to the error")
    parser.add_argument("--each", action="store_true", help="what every single layer adds; takes longer")
    parser.add_argument(
        "--suggest", action="store_true", help="name the layers to exclude to meet the bounds, as a piece of recipe"
    )
    parser.add_argument("--lpips", action="store_true", help="LPIPS of the images; needs torchmetrics and its weights")
    parser.add_argument(
        "--clip", metavar="DIR", type=Path, help="how well images fit their prompts, by the CLIP model in this folder"
    )
    parser.add_argument("--original", metavar="M", help="compare with this model: a folder, a Hub id or builtin:NAME")
    parser.add_argument("--record", metavar="FILE", type=Path, help="write what --json prints to a file")
    add_device(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    from qcompile.cli.imports import heavy_imports
    from qcompile.cli.progress import shown

    with heavy_imports():
        from qcompile.record_file import encodable
        from qcompile.verify.record import check_target, record_of, write
        from qcompile.verify.verification import Request, verify
    if options.record:
        check_target(options.record)
    with shown(silently=options.json) as progress:
        found = verify(
            options.artifact,
            num_prompts=options.prompts,
            request=Request(
                control=options.control,
                sensitivity=options.sensitivity,
                each=options.each,
                suggest=options.suggest,
                lpips=options.lpips,
                clip=options.clip,
            ),
            bounds=dict(options.bounds),
            original=options.original,
            device=options.device,
            progress=progress,
        )
    command = shlex.join(["qcompile", *sys.argv[1:]])
    record = record_of(found, command, datetime.date.today().isoformat())
    try:
        # First, so that a full disk does not take what was measured.
        print(record.model_dump_json(indent=1) if options.json else encodable(text(found)), flush=True)
    finally:
        # And whatever became of that: the reader of a pipe may have gone.
        if options.record:
            write(record, options.record)
    return 0 if found.holds else 1


def text(found: Report) -> str:
    """The report as people read it."""
    images = plural(len(found.arms[-1].measured.psnr_db), "image")
    steps = plural(len(found.trajectory), "call")
    parts = [
        f"{found.recipe} against {found.model} at {found.shape}: {images}, and the denoiser's relative errors over "
        f"{steps} along the original's trajectory",
        _arms(found),
    ]
    if found.no_control is not None:
        parts.append(f"  no control: {found.no_control}")
    parts.append(_bounds(found))
    if found.sensitivity is not None:
        parts.append(_sensitivity(found))
    if found.suggestion is not None:
        parts.append(_suggestion(found))
    if found.no_suggestion is not None:
        parts.append(f"nothing to suggest: {found.no_suggestion}")
    return "\n\n".join(parts)


def _arms(found: Report) -> str:
    scored = found.original_score_percent is not None
    extra = list(found.arms[0].perceptual)
    header = ("", "first call", "step median", "step max", "PSNR dB", "least", "SSIM", "least")
    rows = [(*header, *extra, *(("score",) if scored else ()))]
    if scored:
        rows.append(("original", *("",) * (len(header) - 1 + len(extra)), f"{found.original_score_percent:.1f} %"))
    for arm in found.arms:
        score = (f"{arm.measured.score_percent:.1f} %",) if scored else ()
        rows.append((arm.name, *_figures(arm), *(f"{arm.perceptual[name]:.4f}" for name in extra), *score))
    return table(rows, right=range(1, len(rows[0])))


def _figures(arm: Arm) -> tuple[str, ...]:
    measured = arm.measured
    steps = measured.step_errors
    errors = (max(measured.quantized_errors.values()), statistics.median(steps), max(steps))
    psnr = [math.inf if value is None else value for value in measured.psnr_db]
    return (
        *(f"{error:.4f}" for error in errors),
        *(_median_and_least(psnr, ".1f")),
        *(_median_and_least(measured.ssim, ".4f")),
    )


def _median_and_least(values: Sequence[float], style: str) -> tuple[str, str]:
    if not values:
        return "-", "-"
    return tuple(
        "same" if math.isinf(value) else format(value, style) for value in (statistics.median_low(values), min(values))
    )  # type: ignore[return-value]


def _bounds(found: Report) -> str:
    rows = [("bound", "allowed", "measured", "", "what")]
    for check in found.checks:
        verdict = "" if check.limit is None else "holds" if check.holds else "MISSED"
        rows.append((f"verify.{check.bound}", check.allowed, f"{check.value:.4g}", verdict, check.where))
    return table(rows, right=(2,))


def _sensitivity(found: Report) -> str:
    assert found.sensitivity is not None
    table_ = found.sensitivity
    rows = [("layer", "layers", "scheme", "adds", "error without", "saves")]
    rows += [
        (
            row.name,
            str(len(row.layers)),
            row.scheme,
            _error(row.adds),
            _error(row.error_without),
            megabytes(row.bytes_saved),
        )
        for row in table_.rows
    ]
    calls = ", ".join(str(index + 1) for index in table_.calls)
    head = f"mean relative error {_error(table_.error)} over calls {calls}; with a layer's original weights back it is:"
    return f"{head}\n{table(rows, right=(1, 3, 4, 5))}"


def _error(value: float) -> str:
    return f"{value:.5f}" if math.isfinite(value) else "not finite"


def _suggestion(found: Report) -> str:
    assert found.suggestion is not None
    suggestion = found.suggestion
    if not suggestion.excluded:
        return "nothing to exclude: the bounds are met"
    met = "; ".join(
        f"{check.bound} {check.value:.4g} ({check.allowed})" for check in suggestion.checks if check.limit is not None
    )
    lines = [
        f"exclude {plural(len(suggestion.layers), 'layer')}, {megabytes(suggestion.bytes_lost)} more of weights: {met}"
    ]
    for index, fragment in suggestion.fragments.items():
        lines.append(f"in place of `layers` of steps.{index}:\n\n{fragment.rstrip()}")
    for index in suggestion.emptied:
        lines.append(f"steps.{index} would have no layer left: take it out, or widen the bound")
    return "\n".join(lines)


def _bound(text: str) -> tuple[str, float]:
    """Argparse type of `KEY=VALUE`.

    Raises:
        ArgumentTypeError: no bound is called that, or the value is none it can have.
    """
    import pydantic

    from qcompile.errors import nearest
    from qcompile.header import Bounds

    key, _, value = text.partition("=")
    if key not in Bounds.model_fields:
        raise argparse.ArgumentTypeError(f"no bound is called {key!r}; {nearest(key, Bounds.model_fields)}")
    try:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{value} is no bound")
        Bounds.model_validate({key: number})
    except (ValueError, pydantic.ValidationError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: write KEY=NUMBER, for example max_step_error=0.05") from error
    return key, number
