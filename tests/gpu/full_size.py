"""Write a pipeline of published size with random weights, to measure what needs no trained ones.

    PYTHONPATH=tests python tests/gpu/full_size.py FAMILY FOLDER

FAMILY is one of the gallery's (`flux_dev`, `sdxl`, `wan`, …). The denoiser and the autoencoder have every layer; text
encoders have their widths, but only --text-layers layers, since what is measured is not theirs. Matrices and kernels are
normal with standard deviation 0.02, the rest is as the constructors leave it.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import safetensors.torch
import torch
from gallery.cases import FAMILIES
from gallery.family import Family, Part

DEPTHS = ("num_layers", "num_hidden_layers", "n_layer")
DEVIATION = 0.02


def main() -> int:
    """Write the folder and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text-layers", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    started = time.perf_counter()
    family = FAMILIES[options.family]
    pipeline = build(family, options.text_layers, torch.device(options.device))
    made = time.perf_counter()
    save(pipeline, options.folder)
    total = sum(path.stat().st_size for path in options.folder.rglob("*") if path.is_file())
    print(
        f"{options.folder}: {total / 1e9:.1f} GB, {made - started:.0f} s to make, {time.perf_counter() - made:.0f} s to write"
    )
    return 0


def build(family: Family, text_layers: int, device: torch.device) -> Any:
    """The pipeline, in bfloat16 on `device`."""
    torch.manual_seed(0)
    models = {name: random_part(_shallow(part, text_layers), device) for name, part in family.parts.items()}
    tokenizers = {name: make() for name, make in family.tokenizers.items()}
    scheduler = getattr(diffusers, family.scheduler[0])(**family.scheduler[1])
    absent = dict.fromkeys(family.absent)
    return getattr(diffusers, family.pipeline)(**models, **tokenizers, **absent, scheduler=scheduler, **family.settings)


def save(pipeline: Any, folder: Path) -> None:
    """Write a pipeline, the shards of each model side by side: one after the other they take most of a minute."""
    write: Any = safetensors.torch.save_file
    written: list[Future[None]] = []
    with ThreadPoolExecutor() as pool:

        def begin(*words: Any, **options: Any) -> None:
            written.append(pool.submit(write, *words, **options))

        # diffusers looks the function up there for each shard; transformers has a name of its own for it.
        with mock.patch.object(safetensors.torch, "save_file", begin):
            pipeline.save_pretrained(folder, max_shard_size="2GB")
    for shard in written:
        shard.result()


def _shallow(part: Part, layers: int) -> Part:
    if part.library != "transformers":
        return part
    return replace(part, full=_with_depth(part.full, layers))


def _with_depth(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    return {
        name: _with_depth(value, layers)
        if isinstance(value, Mapping)
        else min(value, layers)
        if name in DEPTHS
        else value
        for name, value in config.items()
    }


def random_part(part: Part, device: torch.device) -> torch.nn.Module:
    """One model of a family at full size, in bfloat16."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = replace(part, tiny={}).build()
    finally:
        torch.set_default_dtype(before)
    model = model.to(torch.bfloat16).eval().requires_grad_(False)
    for tensor in model.parameters():
        if tensor.dim() > 1:
            tensor.normal_(0, DEVIATION)
    return model


if __name__ == "__main__":
    sys.exit(main())
