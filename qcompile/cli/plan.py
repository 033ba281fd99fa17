"""Show what recipes will do to every module, and what it will weigh.

Works from configurations: no weights are read. Modules that differ only in their indices share one line.

--resolve loads the model instead, measures what `scheme: autoquant` leaves open, and prints the explicit recipe alone;
what was measured goes to stderr:

  qcompile plan --resolve RECIPE > mine.yaml
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.cli.options import add_json, add_recipe_options
from qcompile.cli.table import megabytes, plural, table
from qcompile.fold import fold

if TYPE_CHECKING:
    from qcompile.change import Change
    from qcompile.planner import Plan
    from qcompile.recipe import Recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recipes", metavar="RECIPE", nargs="+", help="recipe file")
    add_recipe_options(parser)
    parser.add_argument(
        "--all", action="store_true", help="show the layers that are left alone by name, not only their number"
    )
    parser.add_argument(
        "--resolve", action="store_true", help="measure what autoquant leaves open and print the explicit recipe"
    )
    parser.add_argument(
        "--cache",
        metavar="FILE",
        help="with --resolve: where measured latencies are kept, by default in ~/.cache/qcompile",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Plan each recipe and print what was found."""
    from qcompile import recipe as recipes
    from qcompile.cli.imports import heavy_imports
    from qcompile.errors import PlanError

    if options.cache and not options.resolve:
        raise PlanError(f"--cache {options.cache}: a plan measures nothing. Add --resolve, or take --cache out.")
    read = [recipes.read(path, options.overrides, options.model) for path in options.recipes]
    if options.resolve:
        return _resolve(read, options)
    with heavy_imports():
        from qcompile.planner import plan
    documents = []
    for index, recipe in enumerate(read):
        planned = plan(recipe, device=options.device)
        if options.json:
            documents.append(document(planned))
        else:
            print(("\n" if index else "") + text(planned, options.all))
    if options.json:
        print(json.dumps({"plans": documents}, indent=1))
    return 0


def _resolve(read: list[Recipe], options: argparse.Namespace) -> int:
    """Print one recipe with the schemes that autoquant chose."""
    from qcompile.cli.imports import heavy_imports
    from qcompile.cli.progress import shown
    from qcompile.errors import RecipeError

    if len(read) != 1:
        raise RecipeError(f"--resolve prints one recipe, and {len(read)} were named. Name them one by one.")
    with heavy_imports():
        from qcompile.autoquant import resolve
        from qcompile.autoquant.resolution import renamed
    name = _written_to()
    recipe = renamed(read[0], name) if name else read[0]
    with shown(silently=options.json) as progress:
        resolution = resolve(
            recipe, device=options.device, progress=progress, cache=Path(options.cache) if options.cache else None
        )
    if options.json:
        print(json.dumps({"resolved": [resolution.document()]}, indent=1))
        return 0
    if resolution.measurements:
        sys.stderr.write(f"{resolution.machine}\n{table(resolution.table(), right=(1, 3, 4, 5))}\n")
    else:
        sys.stderr.write(f"{recipe.name} has no autoquant step: it is explicit already\n")
    print(resolution.to_yaml(), end="")
    return 0


def _written_to() -> str | None:
    """The name of the recipe file that stdout goes to, as in `> mine.yaml`: recipes are named as their files."""
    try:
        target = Path("/proc/self/fd/1").readlink()
    except OSError:
        return None
    return target.stem if target.suffix == ".yaml" and target.is_file() else None


def document(plan: Plan) -> dict[str, Any]:
    """A plan as plain data."""
    return {
        "recipe": plan.recipe.name,
        "version": plan.recipe.header.version,
        "model": plan.recipe.header.model.id,
        "device": plan.device_type,
        "denoiser": plan.denoiser,
        "shapes": list(plan.shapes),
        "changes": [asdict(change) for change in plan.changes],
        "components": [asdict(component) for component in plan.components],
        "bytes_before": plan.bytes_before,
        "bytes_after": plan.bytes_after,
        "rows_unknown": plan.rows_unknown,
        "obstacles": list(plan.obstacles),
        "hints": list(plan.hints),
    }


def text(plan: Plan, every_layer: bool = False) -> str:
    """A plan as people read it."""
    header, shapes = plan.recipe.header, ", ".join(plan.shapes)
    parts = [f"{header.name} version {header.version}: {header.model.id} on {plan.device_type}, shapes {shapes}"]
    for index, step in enumerate(plan.recipe.steps):
        changes = [change for change in plan.changes if change.step == index]
        parts.append(f"steps.{index} {step.kind} {step.owner or ''}".rstrip() + f"\n{_step(changes, every_layer)}")
    parts.append(_weights(plan))
    if plan.rows_unknown:
        parts.append(f"Rows are unknown: the denoiser needs values to run, and a plan has none ({plan.rows_unknown}).")
    parts += [f"Hint: {hint}" for hint in plan.hints]
    if plan.obstacles:
        listed = "\n".join(f"  {obstacle}" for obstacle in plan.obstacles)
        parts.append(f"WARNING: this machine can't apply the recipe.\n{listed}")
    return "\n\n".join(parts)


def _step(changes: list[Change], every_layer: bool) -> str:
    shown = [change for change in changes if change.action or every_layer]
    rows = [("module", "", "rows seen", "in", "out", "what"), *_lines(shown)]
    if not any(change.rows or change.features for change in shown):
        rows = [(row[0], row[1], row[-1]) for row in rows]
    lines = [table(rows, right=() if len(rows[0]) == 3 else (3, 4))]
    lines += [f"  total  {line}" for line in _totals(changes)]
    return "\n".join(lines)


def _lines(changes: Iterable[Change]) -> list[tuple[str, ...]]:
    """One line for all modules that are alike in everything but the indices in their names."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for change in changes:
        key = (change.action, change.reason, change.rows, change.features)
        alike.setdefault((_without_indices(change.module), *key), []).append(change.module)
    lines = []
    for (_, action, reason, rows, features), names in alike.items():
        seen = ", ".join(map(str, rows)) or "-"
        sizes = tuple(map(str, features or ("-", "-")))
        what = action or f"left alone: {reason}"
        lines += [
            (name or "(the component)", f"x{count}" if count > 1 else "", seen, *sizes, what)
            for name, count in fold(names)
        ]
    return lines


def _without_indices(name: str) -> str:
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def _totals(changes: list[Change]) -> list[str]:
    """Layers and bytes of each action, then of what is left alone, by reason."""
    lines = []
    for action in dict.fromkeys(change.action for change in changes if change.action):
        found = [change for change in changes if change.action == action]
        before, after = (sum(getattr(change, name) for change in found) for name in ("bytes_before", "bytes_after"))
        sizes = (
            ""
            if before == 0
            else f", {megabytes(before)} -> {megabytes(after)}"
            if before != after
            else f", {megabytes(before)}"
        )
        lines.append(f"{action}: {plural(len(found), 'module')}{sizes}")
    left = [change for change in changes if not change.action]
    if left:
        reasons = [change.reason or "" for change in left]
        counted = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
        size = sum(change.bytes_before for change in left)
        lines.append(f"left alone: {plural(len(left), 'module')}, {megabytes(size)} ({counted})")
    return lines


def _weights(plan: Plan) -> str:
    rows = [("weights", "class", "before", "after", "")]
    sizes = [(item.name, item.class_name, item.before, item.after) for item in plan.components]
    for name, class_name, before, after in [*sizes, ("total", "", plan.bytes_before, plan.bytes_after)]:
        ratio = f"{100 * after / before:.0f} %" if before else ""
        rows.append((name, class_name, megabytes(before), megabytes(after), ratio))
    return table(rows, right=(2, 3, 4), indent="")
