"""Run a recipe's steps in order, check the result and write the artifact.

The artifact folder appears only when everything is done and checked. --dry-run prints the plan, says what would stop
the run, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.cli.options import add_json, add_recipe_options, path
from qcompile.cli.table import megabytes, plural, table

if TYPE_CHECKING:
    from qcompile.artifact.read import Artifact
    from qcompile.recipe import Recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=path,
        help="folder of the artifact; by default the recipe's name in the current folder",
    )
    add_recipe_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    parser.add_argument("--overwrite", action="store_true", help="replace an artifact that is there")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Apply the recipe and print where the artifact is and what became of it."""
    from qcompile import recipe as recipes
    from qcompile.artifact.staging import check_target
    from qcompile.cli.imports import heavy_imports
    from qcompile.cli.progress import shown

    recipe = recipes.read(options.recipe, options.overrides, options.model)
    target = Path(options.out or recipe.name)
    check_target(target, options.overwrite)
    if options.dry_run:
        return _dry_run(recipe, options)
    started = time.perf_counter()
    with heavy_imports():
        from qcompile.runner import apply
    with shown(silently=options.json) as progress:
        artifact = apply(recipe, out=target, device=options.device, overwrite=options.overwrite, progress=progress)
    seconds = time.perf_counter() - started
    print(json.dumps(document(artifact, seconds), indent=1) if options.json else text(artifact, seconds))
    return 0


def _dry_run(recipe: Recipe, options: argparse.Namespace) -> int:
    from qcompile.cli import plan as plans
    from qcompile.cli.imports import heavy_imports
    from qcompile.errors import MachineError

    with heavy_imports():
        from qcompile.planner import plan
        from qcompile.runner import refuse_bounds
    refuse_bounds(recipe, is_pipeline=True)
    planned = plan(recipe, device=options.device)
    if planned.obstacles and options.json:
        raise MachineError(f"{'; '.join(planned.obstacles)}. Choose another scheme with --set, or another machine.")
    print(json.dumps({"plans": [plans.document(planned)]}, indent=1) if options.json else plans.text(planned))
    return MachineError.exit_code if planned.obstacles else 0


def document(artifact: Artifact, seconds: float) -> dict[str, Any]:
    """What was made, as plain data."""
    manifest = artifact.manifest
    return {
        "artifact": str(artifact.folder),
        "recipe": manifest.recipe.name,
        "version": manifest.recipe.version,
        "weight_bytes_before": artifact.original_weight_bytes,
        "weight_bytes_after": artifact.weight_bytes,
        "packages": len(manifest.packages),
        "package_bytes": artifact.package_bytes,
        "verification": manifest.verification.model_dump(mode="json"),
        "seconds": round(seconds, 3),
    }


def text(artifact: Artifact, seconds: float) -> str:
    """What was made, and what to type next."""
    manifest = artifact.manifest
    before, after = artifact.original_weight_bytes, artifact.weight_bytes
    rows = [
        (
            "weights",
            f"{megabytes(before)} -> {megabytes(after)}" + (f" ({100 * after / before:.0f} %)" if before else ""),
        )
    ]
    if manifest.packages:
        rows.append(("packages", f"{megabytes(artifact.package_bytes)} in {plural(len(manifest.packages), 'file')}"))
    rows.append(("errors", errors(artifact)))
    if manifest.model.kind == "pipeline":
        rows.append(("", f"without a control; `qcompile verify {shlex.quote(str(artifact.folder))}` has one"))
    rows.append(("next", next_command(artifact)))
    return f"{artifact.folder} is there, after {seconds:.1f} s\n{table(rows)}"


def errors(artifact: Artifact) -> str:
    """The verification figures in one line; relative errors are the worst of all shapes."""
    found = artifact.manifest.verification
    first = ", ".join(
        f"{kind} {max(values.values()):.2g}"
        for kind, values in (("quantized", found.quantized_relative_error), ("compiled", found.compiled_relative_error))
        if values
    )
    parts = [f"{first} at the first step"]
    if found.image_psnr_db is not None:
        image = f"image PSNR {found.image_psnr_db:.1f} dB"
    else:
        image = "same image" if "quantized.png" in artifact.manifest.files else "no image was compared"
    if found.step_relative_error:
        parts.append(f"{max(found.step_relative_error):.2g} at the worst")
    return f"{', '.join(parts)} (relative, of the {artifact.manifest.denoiser}'s output); {image}"


def next_command(artifact: Artifact) -> str:
    """The command that paints with the artifact."""
    prompt = artifact.manifest.call.get("prompt")
    shown = prompt if isinstance(prompt, str) else "…"
    return f"qcompile generate {shlex.quote(str(artifact.folder))} --prompt {shlex.quote(shown)} --out image.png"
