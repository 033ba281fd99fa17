"""One arm in a process of its own: what a person waits for at start, and what memory it takes.

Run by `cold_start` as `python -m qcompile.bench.probe`; prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.errors import MachineError

if TYPE_CHECKING:
    import torch

    from qcompile.artifact.read import Artifact
    from qcompile.artifact.stored import Ahead

PROBED = ("eager", "jit_bf16", "jit_from_original", "eager_quantized", "jit", "aot", "aot_graphs", "as_loaded")
"""Arms; `as_loaded` is an artifact as `load` gives it, with or without packages."""
FROM_ORIGINAL = ("eager", "jit_bf16", "jit_from_original")
PACKAGED = ("aot", "aot_graphs", "as_loaded")
MEMORY_FIELDS = {"VmHWM": "peak_cpu", "VmRSS": "resident_cpu"}
STEADY = 10
"""Steps that a steady one is the median of; they come last, since nobody waits for them."""


def cold_start(
    arm: str, artifact: Path, device: str, label: str, image: bool, calls_of: Path | None = None
) -> dict[str, float]:
    """Start a process that loads one arm with empty compiler caches and paints one image.

    Args:
        arm: one of `PROBED`.
        artifact: folder of the artifact; the original is the model that its manifest names.
        device: where to.
        label: the declared shape.
        image: whether to paint a whole image after the first step; a CUDA graph can't, it holds one step's inputs.
        calls_of: folder of the artifact whose recipe says how the pipeline is called; None for the same.

    Returns:
        Seconds: `import`, of that `wait` for digests and weights after the last import, `load`, of that `quantize`
        where there is no artifact, `first_step`, `steady_step`, `image` (a call of the pipeline, which paints `images`
        of them), and from the start of the process `start_to_first_step` and `start_to_image` (one step, then a whole
        image is in it); bytes: `peak_gpu`, `resident_gpu` (tensors at the end), `reserved_gpu` (what the process holds
        of the GPU at the end, CUDA graphs' memory included), `peak_cpu`, `resident_cpu`.

    Raises:
        MachineError: the process failed, for lack of memory for one.
    """
    with tempfile.TemporaryDirectory() as caches:
        environment = os.environ | {
            "TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor",
            "TRITON_CACHE_DIR": f"{caches}/triton",
            "QCOMPILE_STARTED": repr(time.time()),
        }
        words = [sys.executable, "-m", "qcompile.bench.probe", arm, str(artifact), device, label]
        words += ["--calls-of", str(calls_of)] if calls_of else []
        result = subprocess.run(
            [*words, *(["--image"] if image else [])], env=environment, capture_output=True, text=True, check=False
        )
    if result.returncode < 0:
        raise MachineError(
            f"{arm} in a process of its own: ended by {signal.Signals(-result.returncode).name}; the system does that "
            "where memory runs out, native code where it was built for another machine"
        )
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise MachineError(f"{arm} in a process of its own: {reason}")
    return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> int:
    """Measure one arm and print what was found."""
    started = float(os.environ["QCOMPILE_STARTED"])
    parser = argparse.ArgumentParser(prog="python -m qcompile.bench.probe", description=__doc__)
    parser.add_argument("arm", choices=PROBED)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("device")
    parser.add_argument("label")
    parser.add_argument("--image", action="store_true")
    parser.add_argument("--calls-of", type=Path)
    options = parser.parse_args()

    from qcompile.opening import open_beside_imports
    from qcompile.progress import Silent, Stopwatch

    # As `qcompile.load` has it.
    watch = Stopwatch(Silent())
    artifact, ahead = open_beside_imports(
        options.artifact, options.device, options.arm in PACKAGED, watch, options.arm not in FROM_ORIGINAL
    )
    import torch

    found = {"import": time.time() - started, "wait": sum(watch.seconds.values())}
    device = torch.device(options.device)
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        text = (options.calls_of / "recipe.yaml").read_text(encoding="utf-8") if options.calls_of else None
        called = text or artifact.recipe_text
        found |= _measure(options.arm, artifact, ahead, device, options.label, options.image, called, started)
    print(json.dumps(found))
    return 0


def _measure(
    arm: str,
    artifact: Artifact,
    ahead: dict[str, Ahead],
    device: torch.device,
    label: str,
    image: bool,
    called: str,
    started: float,
) -> dict[str, float]:
    import torch

    from qcompile import recipe as recipes
    from qcompile.bench.around import Graph, compiled
    from qcompile.images import count_painted
    from qcompile.subject import subject_of_pipeline

    begun = time.time()
    pipeline, found = _load(arm, artifact, ahead, device)
    pipeline.set_progress_bar_config(disable=True)
    around = compiled(artifact, pipeline) if arm in ("jit", "jit_bf16", "jit_from_original") else nullcontext
    found["load"] = time.time() - begun
    subject = subject_of_pipeline(recipes.parse(called), pipeline)
    step: Callable[[], Any] = partial(subject.components[subject.denoiser], **subject.calls()[label])
    if arm == "aot_graphs":
        step, image = Graph(step, nullcontext), False
    paint = (lambda: count_painted(pipeline(**subject.arguments(label)))) if image else None
    with torch.no_grad(), around():
        found |= _run(step, paint, started)
    return found | _memory(device)  # while the pipeline is there


def _run(step: Callable[[], Any], paint: Callable[[], int] | None, started: float) -> dict[str, float]:
    """One step, then a whole image, then steady steps; `paint` gives the number of images."""
    first, _ = _timed(step)
    found = {"first_step": first, "start_to_first_step": time.time() - started}
    if paint:
        found["image"], painted = _timed(paint)
        found |= {"start_to_image": time.time() - started, "images": painted}
    return found | {"steady_step": statistics.median(_timed(step)[0] for _ in range(STEADY))}


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = call()
    _synchronize()
    return time.perf_counter() - begun, result


def _load(arm: str, artifact: Artifact, ahead: dict[str, Ahead], device: torch.device) -> tuple[Any, dict[str, float]]:
    """The arm's pipeline, and the seconds of `quantize` where it is quantized here."""
    import torch

    from qcompile.loader import load
    from qcompile.pipeline import load_pipeline
    from qcompile.source import find_folder

    if arm not in FROM_ORIGINAL:
        return load(artifact, device=str(device), compiled=arm in PACKAGED, ahead=ahead), {}
    model = artifact.manifest.model
    pipeline = load_pipeline(find_folder(model.id, model.revision), getattr(torch, model.dtype), device)
    if arm != "jit_from_original":
        return pipeline, {}
    _synchronize()
    seconds, _ = _timed(partial(_quantize, artifact, pipeline))
    return pipeline, {"quantize": seconds}


def _quantize(artifact: Artifact, pipeline: Any) -> None:
    """Carry out all that the recipe does before it compiles, as everyone does who has no artifact."""
    from qcompile import recipe as recipes
    from qcompile.noise import quiet_libraries
    from qcompile.steps import Phase
    from qcompile.subject import subject_of_pipeline
    from qcompile.verify.arms import carry_out

    recipe = recipes.parse(artifact.recipe_text)
    with quiet_libraries():
        subject = subject_of_pipeline(recipe, pipeline)
        carry_out(recipe, artifact.manifest, subject, set(Phase) - {Phase.COMPILE})


def _memory(device: torch.device) -> dict[str, float]:
    """Memory of this process; what the system does not tell is left out."""
    import torch

    # Not getrusage's peak: Linux hands that of the parent on to its children.
    found: dict[str, float] = {}
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        field, _, value = line.partition(":")
        if field in MEMORY_FIELDS:
            found[MEMORY_FIELDS[field]] = int(value.split()[0]) * 1024
    if device.type == "cuda":
        found["peak_gpu"] = torch.cuda.max_memory_allocated(device)
        found["resident_gpu"] = torch.cuda.memory_allocated(device)
        found["reserved_gpu"] = torch.cuda.memory_reserved(device)
    return found


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
