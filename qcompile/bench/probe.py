"""One arm in a process of its own: what a person waits for at start, and what memory it takes.

Run by `cold_start` as `python -m qcompile.bench.probe`; prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.errors import MachineError

if TYPE_CHECKING:
    from qcompile.artifact.read import Artifact

PROBED = ("eager", "jit_bf16", "eager_quantized", "jit", "aot")
STEADY = 10
"""Steps after the first that a steady one is the median of."""


def cold_start(arm: str, artifact: Path, device: str, label: str, image: bool) -> dict[str, float]:
    """Start a process that loads one arm with empty compiler caches and paints one image.

    Args:
        arm: one of `PROBED`.
        artifact: folder of the artifact; the original is the model that its manifest names.
        device: where to.
        label: the declared shape.
        image: whether to paint a whole image after the steps.

    Returns:
        Seconds: `import`, `load`, `first_step`, `steady_step`, `image`, and from the start of the process
        `start_to_first_step` and `start_to_image`; bytes: `peak_gpu`, `resident_gpu`, `peak_cpu`.

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
        result = subprocess.run(
            [*words, *(["--image"] if image else [])], env=environment, capture_output=True, text=True, check=False
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
    options = parser.parse_args()

    from qcompile.noise import quiet_imports

    with quiet_imports():
        import torch

        from qcompile.artifact.read import read_artifact
        from qcompile.loader import load  # noqa: F401 (importing is what is timed)
    found = {"import": time.time() - started}
    begun = time.time()
    artifact = read_artifact(options.artifact)
    pipeline = _load(options.arm, artifact, options.device)
    found["load"] = time.time() - begun
    found |= _run(pipeline, artifact, options.label, options.image, started)
    if torch.cuda.is_available() and options.device.startswith("cuda"):
        found["peak_gpu"] = torch.cuda.max_memory_allocated()
        found["resident_gpu"] = torch.cuda.memory_allocated()
    found["peak_cpu"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))
    return 0


def _load(arm: str, artifact: Artifact, device: str) -> Any:
    import torch

    from qcompile.bench.arms import Stand, compile_step
    from qcompile.loader import load
    from qcompile.pipeline import load_pipeline
    from qcompile.source import find_folder

    if arm in ("aot", "jit", "eager_quantized"):
        pipeline = load(artifact, device=device, compiled=arm == "aot")
    else:
        model = artifact.manifest.model
        folder = find_folder(model.id, model.revision)
        pipeline = load_pipeline(folder, getattr(torch, model.dtype), torch.device(device))
    if arm in ("jit", "jit_bf16"):
        stand = Stand(artifact, torch.device(device), {"it": pipeline}, {})
        step, options = compile_step(stand)
        for part in step.targets(stand.model("it")).values():
            part.compile(options=dict(options))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _run(pipeline: Any, artifact: Artifact, label: str, image: bool, started: float) -> dict[str, float]:
    import torch

    from qcompile import recipe as recipes
    from qcompile.subject import subject_of_pipeline

    subject = subject_of_pipeline(recipes.parse(artifact.recipe_text), pipeline)
    call = subject.calls()[label]
    denoiser = subject.components[subject.denoiser]
    seconds: list[float] = []
    found: dict[str, float] = {}
    with torch.no_grad():
        for _ in range(1 + STEADY):
            begun = time.perf_counter()
            denoiser(**call)
            _synchronize()
            seconds.append(time.perf_counter() - begun)
            found.setdefault("start_to_first_step", time.time() - started)
        found |= {"first_step": seconds[0], "steady_step": statistics.median(seconds[1:])}
        if image:
            begun = time.perf_counter()
            pipeline(**subject.arguments(label))
            _synchronize()
            found |= {"image": time.perf_counter() - begun, "start_to_image": time.time() - started}
    return found


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
