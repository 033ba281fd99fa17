# SPDX-License-Identifier: Apache-2.0
"""How good flux-mini is: `python -m qcompile.builtin.evaluate` paints held-out captions and scores the pictures."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qcompile.builtin import DEFAULT_CALL, builtin_folder
from qcompile.builtin.captions import Caption, held_out_captions
from qcompile.builtin.score import Totals, score_images

BATCH = 25
SEED = 1


def paint_captions(
    pipeline: Any,
    captions: Sequence[Caption],
    *,
    batch: int = BATCH,
    seed: int = SEED,
    call: dict[str, Any] | None = None,
) -> list[np.ndarray]:
    """Paint captions with a pipeline, each from noise of its own seed, so that the batch does not matter.

    Args:
        pipeline: flux-mini or an artifact made from it.
        captions: what to paint.
        batch: captions of one call; an artifact has packages for its declared batches only.
        seed: the first caption's; each next one has the next seed.
        call: arguments besides the prompt; by default those flux-mini was trained for.

    Returns:
        uint8 [height, width, 3] for each caption.
    """
    call = dict(DEFAULT_CALL["flux-mini"]) if call is None else call
    images: list[np.ndarray] = []
    with torch.no_grad():
        for start in range(0, len(captions), batch):
            part = captions[start : start + batch]
            generators = [torch.Generator().manual_seed(seed + start + index) for index in range(len(part))]
            result = pipeline([caption.text for caption in part], generator=generators, output_type="np", **call)
            images += [(image * 255).round().astype(np.uint8) for image in result.images]
    return images


def evaluate(pipeline: Any, count: int = 200, *, batch: int = BATCH, call: dict[str, Any] | None = None) -> Totals:
    """Score a pipeline on `count` held-out captions."""
    captions = held_out_captions(count)
    return score_images(paint_captions(pipeline, captions, batch=batch, call=call), captions)


def main(arguments: list[str] | None = None) -> None:
    """Print a table of scores in percent."""
    from diffusers import FluxPipeline

    parser = argparse.ArgumentParser(prog="python -m qcompile.builtin.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=builtin_folder("flux-mini"))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--steps", type=int, default=DEFAULT_CALL["flux-mini"]["num_inference_steps"])
    parser.add_argument("--guidance", type=float, default=DEFAULT_CALL["flux-mini"]["guidance_scale"])
    parser.add_argument("--shift", type=float, help="of the noise schedule, instead of the saved one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    pipeline = FluxPipeline.from_pretrained(options.model, dtype=torch.bfloat16, use_safetensors=True)
    if options.shift is not None:
        pipeline.scheduler.register_to_config(shift=options.shift)
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu").set_progress_bar_config(disable=True)
    call = dict(DEFAULT_CALL["flux-mini"]) | {
        "height": options.size[0],
        "width": options.size[1],
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
    }
    totals = asdict(evaluate(pipeline, options.count, call=call))
    if options.json:
        print(json.dumps(totals))
        return
    for name, value in totals.items():
        print(f"{name.replace('_', ' '):20} {value if name == 'count' else f'{value:.1%}'}")


if __name__ == "__main__":
    main()
