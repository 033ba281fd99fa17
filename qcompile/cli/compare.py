"""Paint the same prompts with an artifact and with the model it was made from.

Writes all pairs side by side into one picture, and prints what each takes and weighs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.cli.options import add_device, add_json, at_least_one, seed
from qcompile.cli.save import save
from qcompile.cli.table import megabytes, plural, table

if TYPE_CHECKING:
    from qcompile.compare import Arm, Comparison


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="folder that `qcompile apply` wrote")
    parser.add_argument(
        "--prompt",
        metavar="TEXT",
        action="append",
        default=[],
        dest="prompts",
        help="what to paint; may be repeated; by default eight captions for builtin:flux-mini, else the recipe's",
    )
    parser.add_argument(
        "--out", metavar="FILE", default="compare.png", help="picture of all pairs, replaced if it is there"
    )
    parser.add_argument(
        "--seed", metavar="N", type=seed, default=0, help="seed of the first prompt's noise (default: 0)"
    )
    parser.add_argument("--steps", metavar="N", type=at_least_one, help="denoising steps (num_inference_steps)")
    parser.add_argument("--original", metavar="M", help="compare with this model: a folder, a Hub id or builtin:NAME")
    add_device(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Paint, write the picture, print the table."""
    from qcompile.cli.imports import heavy_imports
    from qcompile.cli.progress import shown

    out = Path(options.out)
    _check_out(out)
    with heavy_imports():
        from qcompile.compare import compare
        from qcompile.sheet import draw
    with shown(silently=options.json) as progress:
        found = compare(
            options.artifact,
            prompts=options.prompts,
            seed=options.seed,
            num_inference_steps=options.steps,
            original=options.original,
            device=options.device,
            progress=progress,
        )
    save(out, draw(found).save)
    print(json.dumps(document(found, out), indent=1) if options.json else text(found, out))
    return 0


def document(found: Comparison, out: Path) -> dict[str, Any]:
    """The comparison as plain data."""
    return {
        "picture": str(out),
        "model": found.model,
        "prompts": list(found.prompts),
        "seed": found.seed,
        "speedup": round(found.speedup, 3),
        "arms": [
            {
                "name": arm.name,
                "label": arm.label,
                "seconds_per_image": round(arm.seconds_per_image, 4),
                "seconds": [round(seconds, 4) for seconds in arm.seconds],
                "load_seconds": round(arm.load_seconds, 3),
                "weight_bytes": arm.weight_bytes,
                "package_bytes": arm.package_bytes,
                "num_right": arm.num_right,
            }
            for arm in (found.original, found.artifact)
        ],
    }


def text(found: Comparison, out: Path) -> str:
    """The comparison as people read it."""
    arms = (found.original, found.artifact)
    scored = found.original.num_right is not None
    header = ("", "s/image", "times as fast", "weights", "packages", "load", *(("right",) if scored else ()))
    rows = [header, *(_row(arm, found, scored) for arm in arms)]
    return (
        f"{found.artifact.label} against {found.model} ({found.original.label}): "
        f"{plural(len(found.prompts), 'prompt')}, median seconds\n\n"
        f"{table(rows, right=range(1, len(header)))}\n\nlook at {out}"
    )


def _row(arm: Arm, found: Comparison, scored: bool) -> tuple[str, ...]:
    return (
        arm.name,
        f"{arm.seconds_per_image:.2f}",
        f"{found.original.seconds_per_image / arm.seconds_per_image:.2f}",
        megabytes(arm.weight_bytes),
        megabytes(arm.package_bytes) if arm.package_bytes else "-",
        f"{arm.load_seconds:.2f} s",
        *((f"{arm.num_right} of {len(found.prompts)}",) if scored else ()),
    )


def _check_out(out: Path) -> None:
    """Refuse a file that can't be written, before any work is done."""
    from qcompile.errors import ArtifactError
    from qcompile.outside import refuse_inside_artifact, refuse_unwritable

    if out.suffix.lower() != ".png":
        raise ArtifactError("unwritable", f"--out {out}: the picture is a PNG file. Call it NAME.png.")
    if out.is_dir():
        raise ArtifactError("unwritable", f"--out {out} is a folder. Name a file in it.")
    refuse_inside_artifact(out, "--out")
    refuse_unwritable(out, "--out")
