# SPDX-License-Identifier: Apache-2.0
"""Train flux-mini from nothing: `python -m qcompile.builtin.train --out FOLDER`. A GPU is used where there is one.

Four phases: text, autoencoder, denoiser, guidance. The pipeline is saved after each, and `--resume` goes on from what
    was saved. `--quick`
runs every phase for a few steps, to see that everything works.
"""

import argparse
import copy
import json
import platform
import sys
import time
from pathlib import Path

import diffusers
import torch
from diffusers import FluxPipeline

from qcompile.builtin.architecture import make_pipeline
from qcompile.builtin.samples import Samples
from qcompile.builtin.schedule import Length
from qcompile.builtin.train_autoencoder import train_autoencoder
from qcompile.builtin.train_denoiser import train_denoiser
from qcompile.builtin.train_text import train_text

PHASES = ("text", "autoencoder", "denoiser", "guidance")
STEPS = {"text": 2500, "autoencoder": 1500, "denoiser": 30000, "guidance": 6000}
QUICK_STEPS = 3
SEED = 20261121


def main(arguments: list[str] | None = None) -> None:
    """Run the phases asked for and save the pipeline in bfloat16 after each."""
    options = _parser().parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    # cuDNN's attention fails in its backward pass for heads of 32 in bfloat16 (torch 2.11, H200); flash attention
    # does not.
    torch.backends.cuda.enable_cudnn_sdp(False)
    # Sampled latents draw from the global generator.
    torch.manual_seed(SEED)
    pipeline = (
        FluxPipeline.from_pretrained(options.resume, dtype=torch.float32) if options.resume else make_pipeline(SEED)
    )
    samples = None
    for phase in options.phases:
        minutes = getattr(options, f"{phase}_minutes")
        length = Length(QUICK_STEPS if options.quick else STEPS[phase], minutes)
        started = time.monotonic()
        if phase == "text":
            result = train_text(pipeline, length, options.batch, device, SEED + 1)
        elif phase == "autoencoder":
            result = train_autoencoder(pipeline.vae, length, min(options.batch, 128), device, SEED + 2)
        else:
            samples = samples or Samples(pipeline, options.batch, device, SEED + 3)
            result = train_denoiser(pipeline, samples, length, phase)
        result |= {"seconds": round(time.monotonic() - started, 1), "batch": options.batch}
        print(f"{phase}: {json.dumps(result)}", flush=True)
        _save(pipeline, options.out, phase, result, device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m qcompile.builtin.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pipeline and training_record.json")
    parser.add_argument("--resume", type=Path, help="folder to begin from instead of random weights")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--batch", type=int, default=256, help="pictures of 128x128 a step")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps a phase, to see that it works")
    for phase in PHASES:
        parser.add_argument(f"--{phase}-minutes", type=float, help=f"instead of {STEPS[phase]} steps")
    return parser


def _save(pipeline: FluxPipeline, out: Path, phase: str, result: dict[str, float], device: torch.device) -> None:
    """Write a bfloat16 copy; training goes on in float32."""
    half = FluxPipeline(**{name: copy.deepcopy(part) for name, part in pipeline.components.items() if part is not None})
    half.to("cpu", torch.bfloat16).save_pretrained(out / "model")
    path = out / "training_record.json"
    record = json.loads(path.read_text()) if path.exists() else {"phases": {}}
    record["phases"][phase] = result | {"command": " ".join(["python -m qcompile.builtin.train", *sys.argv[1:]])}
    record["versions"] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }
    record["device"] = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU"
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
