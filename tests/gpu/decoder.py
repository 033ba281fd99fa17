"""Time the decoder of an autoencoder at full size in both memory layouts, eager and compiled, in turn.

    PYTHONPATH=tests python tests/gpu/decoder.py flux_dev --rounds 10

Weights are random; what is decoded is one image.
"""

import argparse
import statistics
import sys
from functools import partial

import torch
from full_size import random_part
from gallery.cases import FAMILIES

from qcompile.bench.timing import Timed, time_in_turn
from qcompile.progress import Silent

LAYOUTS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> int:
    """Print milliseconds of each arm: median, minimum, maximum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--side", type=int, default=1024, help="height and width of the image (default: %(default)s)")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device, dtype, side = torch.device(options.device), getattr(torch, options.dtype), options.side // 8
    arms: dict[str, Timed] = {}
    for layout, memory_format in LAYOUTS.items():
        for how in ("eager", "compiled"):
            torch.manual_seed(0)
            autoencoder = random_part(FAMILIES[options.family].parts["vae"], device).to(dtype)
            decoder = autoencoder.decoder.to(memory_format=memory_format)
            latents = torch.randn(1, autoencoder.config.latent_channels, side, side, device=device, dtype=dtype)
            run = torch.compile(decoder, dynamic=False) if how == "compiled" else decoder
            arms[f"{how}, {layout}"] = Timed(partial(run, latents))
    rounds = time_in_turn(arms, options.rounds, 3, device, Silent())
    for arm, reason in rounds.absent.items():
        print(f"{arm}: {reason}")
    for arm, values in rounds.ms.items():
        if values:
            print(f"{arm}: {statistics.median(values):.2f} ms, {min(values):.2f} to {max(values):.2f}, n={len(values)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
