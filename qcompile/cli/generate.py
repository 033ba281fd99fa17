"""Paint an image with an artifact.

Size, steps and guidance are those the artifact was made for, as far as they are not given.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.cli.options import add_device, add_json, at_least_one, finite, seed

if TYPE_CHECKING:
    from qcompile.artifact.manifest import Manifest
    from qcompile.progress import Progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="folder that `qcompile apply` wrote, or a Hub id")
    parser.add_argument("--prompt", metavar="TEXT", required=True, help="what to paint")
    parser.add_argument("--out", metavar="FILE", default="image.png", help="image file (default: image.png)")
    parser.add_argument("--overwrite", action="store_true", help="replace an image that is there")
    parser.add_argument(
        "--height", metavar="PIXELS", type=at_least_one, help="by default that of the artifact's first shape"
    )
    parser.add_argument(
        "--width", metavar="PIXELS", type=at_least_one, help="by default that of the artifact's first shape"
    )
    parser.add_argument("--steps", metavar="N", type=at_least_one, help="denoising steps (num_inference_steps)")
    parser.add_argument("--guidance", metavar="SCALE", type=finite, help="guidance_scale")
    parser.add_argument(
        "--seed", metavar="N", type=seed, help="seed of the noise; by default that of the artifact's own images"
    )
    add_device(parser)
    parser.add_argument("--no-compiled", action="store_false", dest="compiled", help="open no package, run eagerly")
    parser.add_argument(
        "--on-mismatch",
        choices=("error", "recompile", "eager"),
        default="error",
        help="what to do where packages were built for another machine (default: error)",
    )
    parser.add_argument(
        "--on-unknown-shape",
        choices=("error", "eager"),
        default="error",
        help="what to do for a size there is no package for (default: error)",
    )
    parser.add_argument("--trust-compiled", action="store_true", help="open native code of an artifact from the Hub")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Load the artifact, paint, save."""
    from qcompile.cli.imports import heavy_imports
    from qcompile.cli.progress import shown
    from qcompile.errors import CallError, EnvironmentMismatch, ModelError
    from qcompile.progress import stage

    out = Path(options.out)
    _check_image_name(out, options.overwrite)
    with heavy_imports():
        from qcompile.loader import load
        from qcompile.opening import open_artifact
    with shown(silently=options.json) as progress:
        try:
            with stage(progress, "check digests"):
                artifact = open_artifact(options.artifact, options.compiled, options.trust_compiled)
            if artifact.manifest.model.kind == "model":
                raise ModelError(
                    f"{options.artifact} holds a bare model, which paints nothing. Use qcompile.load in Python."
                )
            pipeline = load(
                artifact,
                device=options.device,
                compiled=options.compiled,
                on_mismatch=options.on_mismatch,
                on_unknown_shape=options.on_unknown_shape,
                progress=progress,
            )
        except EnvironmentMismatch as error:
            remedies = (
                "On the command line: --on-mismatch recompile, --on-mismatch eager, --no-compiled, --trust-compiled."
            )
            raise EnvironmentMismatch(error.fields, f"{error} {remedies}") from error
        seed = artifact.manifest.verification.seed if options.seed is None else options.seed
        call = _call(artifact.manifest, options)
        try:
            images, seconds, cut = _paint(pipeline, call, seed, progress)
        except CallError as error:
            raise CallError(f"{error} On the command line: --on-unknown-shape eager.") from error
        for note in cut:
            with stage(progress, note):
                pass
    files = _save(images, out, options.overwrite)
    if options.json:
        found = {"images": files, "seed": seed, "call": call, "seconds": round(seconds, 3), "notes": cut}
        print(json.dumps(found, indent=1))
    else:
        verb = "is" if len(files) == 1 else "are"
        print(f"{', '.join(files)} {verb} there: {_described(images[0], call, seed)}, {seconds:.2f} s")
    return 0


def _check_image_name(out: Path, overwrite: bool) -> None:
    """Refuse a file that can't be written, before any work is done."""
    from PIL import Image

    from qcompile.errors import ArtifactError
    from qcompile.outside import refuse_inside_artifact, refuse_unwritable

    if Image.registered_extensions().get(out.suffix.lower()) not in Image.SAVE:
        raise ArtifactError(
            "unwritable", f"--out {out}: {out.suffix or 'no suffix'} is no image format. Call it NAME.png."
        )
    if not out.parent.is_dir():
        raise ArtifactError(
            "unwritable", f"--out {out}: there is no folder {out.parent}. Make it, or choose another place."
        )
    refuse_inside_artifact(out, "--out")
    refuse_unwritable(out, "--out")
    if out.exists() and not overwrite:
        raise ArtifactError("exists", f"--out {out} exists and is left alone. Add --overwrite, or choose another name.")
    if out.is_dir() or (out.exists() and not os.access(out, os.W_OK)):
        raise ArtifactError("unwritable", f"--out {out}: can't be replaced. Choose another name.")


def _call(manifest: Manifest, options: argparse.Namespace) -> dict[str, Any]:
    """The recorded call with what was given on the command line."""
    from qcompile.pipeline import OUTPUT_OPTIONS

    first = next(iter(manifest.shapes.values()))
    height, width = options.height or first.height, options.width or first.width
    # Packages are for a size with its own batch and frames.
    shape = next((shape for shape in manifest.shapes.values() if (shape.height, shape.width) == (height, width)), first)
    given = {
        "height": height,
        "width": width,
        "num_frames": shape.frames,
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
    }
    # Plans refuse these; artifacts made before may have them.
    recorded = {name: value for name, value in manifest.call.items() if name not in OUTPUT_OPTIONS}
    call = recorded | {name: value for name, value in given.items() if value is not None}
    negative = call.get("negative_prompt")
    if shape.batch > 1 and isinstance(negative, str):
        call["negative_prompt"] = [negative] * shape.batch
    return call | {"prompt": [options.prompt] * shape.batch if shape.batch > 1 else options.prompt}


def _paint(pipeline: Any, call: dict[str, Any], seed: int, progress: Progress) -> tuple[list[Any], float, list[str]]:
    """The images, seconds, and what was said of prompts that are too long."""
    import torch

    from qcompile.errors import ModelError
    from qcompile.noise import quiet_libraries, truncations
    from qcompile.pipeline import check_call, check_size
    from qcompile.progress import stage
    from qcompile.subject import quiet

    check_call(pipeline, call)
    check_size(pipeline, call.get("height"), call.get("width"), "--")
    started = time.perf_counter()
    with stage(progress, "paint"), quiet_libraries(), truncations() as cut, quiet(pipeline), torch.no_grad():
        result = pipeline(**call, generator=torch.Generator("cpu").manual_seed(seed))
    images = getattr(result, "images", None)
    if images is None:
        raise ModelError(
            f"{type(pipeline).__name__} gives no images ({', '.join(result)}). Use qcompile.load in Python."
        )
    return list(images), time.perf_counter() - started, cut


def _save(images: list[Any], out: Path, overwrite: bool) -> list[str]:
    """Write one image to `out`, several to `NAME-1.png`, `NAME-2.png`, …"""
    from qcompile.errors import MachineError

    names = [out] if len(images) == 1 else [out.with_stem(f"{out.stem}-{index}") for index in range(1, len(images) + 1)]
    for name in names:
        _check_image_name(name, overwrite)
    for image, name in zip(images, names, strict=True):
        try:
            image.save(name)
        except OSError as error:
            name.unlink(missing_ok=True)
            raise MachineError(
                f"--out {name}: can't be written ({error.strerror or error}). Choose another place or format."
            ) from error
    return [str(name) for name in names]


def _described(image: Any, call: dict[str, Any], seed: int) -> str:
    steps = f", {call['num_inference_steps']} steps" if "num_inference_steps" in call else ""
    return f"{image.height}x{image.width}{steps}, seed {seed}"
