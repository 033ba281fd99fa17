"""Show where a denoising step spends its time, and what keeps it from being faster.

Takes an artifact as it is loaded, or a recipe, which is carried out in memory. Lists graph breaks, recompilations and
synchronizations with their place in the source, and the costliest kernels, with what to do about each.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.cli.options import add_json, add_recipe_options, at_least_one
from qcompile.cli.table import plural, table

if TYPE_CHECKING:
    from qcompile.profiler.breaks import GraphBreak, Recompilation
    from qcompile.profiler.run import Profile
    from qcompile.profiler.syncs import Synchronization

NAME_WIDTH = 90
"""Characters of a kernel's name that are shown; templates of C++ go on for hundreds."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("what", metavar="ARTIFACT|RECIPE", help="folder that `qcompile apply` wrote, or a recipe file")
    parser.add_argument(
        "--steps", metavar="N", type=at_least_one, default=5, help="denoising steps to measure (default: 5)"
    )
    parser.add_argument(
        "--trace", metavar="FILE", type=Path, help="write a trace, NAME.json or NAME.json.gz, for ui.perfetto.dev"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a trace that is there")
    parser.add_argument(
        "--original", action="store_true", help="the model before the recipe, compiled as the recipe compiles"
    )
    parser.add_argument("--eager", action="store_true", help="compile nothing and open no package")
    add_recipe_options(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Profile and print."""
    from qcompile.cli.imports import heavy_imports
    from qcompile.cli.progress import shown
    from qcompile.errors import EnvironmentMismatch

    # Else the profiler tells stderr when it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with heavy_imports():
        from qcompile.profiler.run import profile
    with shown(silently=options.json) as progress:
        try:
            found = profile(
                options.what,
                num_steps=options.steps,
                trace_file=options.trace,
                overwrite=options.overwrite,
                original=options.original,
                eager=options.eager,
                device=options.device,
                overrides=options.overrides,
                model=options.model,
                progress=progress,
            )
        except EnvironmentMismatch as error:
            raise EnvironmentMismatch(
                error.fields, f"{error} On the command line: --eager, which opens no package."
            ) from error
    print(json.dumps(document(found), indent=1) if options.json else text(found))
    return 0


def document(found: Profile) -> dict[str, Any]:
    """A profile as plain data."""
    recording, tracing = found.recording, found.tracing
    return {
        "label": found.label,
        "mode": found.mode,
        "device": found.device,
        "shape": found.shape,
        "num_steps": recording.num_steps,
        "step_ms": recording.step_ms,
        "profiled_step_ms": recording.profiled_step_ms,
        "outside_ms": found.outside_ms,
        "groups": [asdict(group) for group in recording.groups],
        "graph_breaks": None if tracing is None else [asdict(item) for item in tracing.breaks],
        "recompilations": None if tracing is None else [asdict(item) for item in tracing.recompilations],
        "synchronizations": None
        if found.synchronizations is None
        else [asdict(item) for item in found.synchronizations],
        "notes": list(found.notes),
        "advice": list(found.advice),
        "trace": None if found.trace is None else str(found.trace),
    }


def text(found: Profile) -> str:
    """A profile as people read it."""
    recording = found.recording
    parts = [
        f"{found.label}, {found.mode}, {found.device}, {found.shape}: {recording.step_ms:.2f} ms a step, "
        f"{recording.profiled_step_ms:.2f} ms under the profiler ({plural(recording.num_steps, 'step')} each)",
        _kernels(found),
    ]
    if found.tracing is not None:
        parts.append(_breaks(found.tracing.breaks, found.tracing.num_graphs))
        parts.append(_recompilations(found.tracing.recompilations, found.tracing.num_compilations))
    if found.synchronizations is not None:
        parts.append(_synchronizations(found.synchronizations, found.num_pipeline_steps))
    parts += [_listed(title, lines) for title, lines in (("note", found.notes), ("to do", found.advice)) if lines]
    if found.trace is not None:
        parts.append(f"{found.trace} is there: open it in ui.perfetto.dev or chrome://tracing")
    return "\n\n".join(parts)


def _kernels(found: Profile) -> str:
    steps = found.recording.num_steps
    total = found.recording.kernel_ms + found.outside_ms
    rows = [("kernels of one step", "ms", "share", "runs", "costliest")]
    for group in found.recording.groups:
        ms = group.ms / steps
        first, *rest = [f"{kernel.ms / steps:.3f} ms  {_short(kernel.name)}" for kernel in group.costliest]
        rows.append((group.name, f"{ms:.3f}", f"{ms / total:.1%}", f"{group.count / steps:g}", first))
        rows += [("", "", "", "", line) for line in rest]
    rows.append(("outside of kernels", f"{found.outside_ms:.3f}", f"{found.outside_ms / total:.1%}", "", ""))
    return table(rows, right=(1, 2, 3), indent="")


def _breaks(breaks: Sequence[GraphBreak], num_graphs: int) -> str:
    if not breaks:
        return f"graph breaks: none ({plural(num_graphs, 'graph')})"
    lines = [
        f"{item.place or 'place unknown'} in {item.function or '?'} (x{item.count}): {item.reason}\n"
        f"      {item.line}\n      -> {item.advice}"
        for item in breaks
    ]
    return _listed(f"graph breaks ({plural(num_graphs, 'graph')})", lines)


def _recompilations(recompilations: Sequence[Recompilation], num_compilations: int) -> str:
    if not recompilations:
        return f"recompilations: none ({plural(num_compilations, 'compilation')})"
    lines = [
        f"{item.place} {item.function}, for {item.shape}: {item.guard}\n      -> {item.advice}"
        for item in recompilations
    ]
    return _listed(f"recompilations ({len(recompilations)} of {plural(num_compilations, 'compilation')})", lines)


def _synchronizations(found: Sequence[Synchronization], num_steps: int) -> str:
    if not found:
        return f"synchronizations: none in a call of {plural(num_steps, 'step')}"
    lines = [
        f"{item.place} in {item.function} (x{item.count}, every step)\n      {item.line}\n      -> {item.advice}"
        for item in found
        if item.every_step
    ]
    lines += [
        f"{item.place} in {item.function} (x{item.count}): {item.advice}" for item in found if not item.every_step
    ]
    return _listed(f"synchronizations in a call of {plural(num_steps, 'step')}", lines)


def _listed(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"  - {line}" for line in lines)])


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"
