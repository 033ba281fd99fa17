"""Running a step under torch's profiler."""

import gzip
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as torch_profile

from qcompile.aot.dispatch import CompiledForward
from qcompile.errors import ArtifactError, MachineError
from qcompile.outside import refuse_inside_artifact
from qcompile.profiler.kernels import OTHER, PACKAGE_MARK, Group, group_kernels, group_of

_AROUND_KERNELS = re.compile(
    r"^(?:## Call CompiledFxGraph|Torch-Compiled Region|TorchDynamo |AOTDispatcher |Pregraph bytecode|CompiledFunction)"
)
"""What torch records for Python code around compiled kernels; it counts as outside of them."""
_ANNOTATIONS = (PACKAGE_MARK, "ProfilerStep")
"""Ranges that the profiler lists among kernels, beginnings of their names."""
WARM_UP = 2
"""Calls before anything is measured: compilation, autotuning and first allocations are no part of a steady step."""
SUFFIXES = (".json", ".json.gz")


@dataclass(frozen=True)
class Recording:
    """Steady steps of one module."""

    num_steps: int
    step_ms: float
    """Median of the steps without the profiler."""
    profiled_step_ms: float
    """Mean of the steps under the profiler, which takes time of its own."""
    groups: tuple[Group, ...]
    """Of all profiled steps together."""

    @property
    def kernel_ms(self) -> float:
        """Milliseconds of one step inside of kernels."""
        return sum(group.ms for group in self.groups) / self.num_steps

    def outside_ms(self, on_gpu: bool) -> float:
        """Milliseconds of one step outside of kernels: Python, dispatch, and a GPU that has nothing to do.

        On a CPU operators are as slow as the profiler makes them, so they are held against profiled steps.
        """
        return max(0.0, (self.step_ms if on_gpu else self.profiled_step_ms) - self.kernel_ms)


def record(step: Callable[[], Any], num_steps: int, device: torch.device, trace: Path | None = None) -> Recording:
    """Run `step` warm, first without and then under the profiler.

    Args:
        step: one call of the denoiser.
        num_steps: how often it is measured each way.
        device: what it runs on.
        trace: file for a trace that chrome://tracing and ui.perfetto.dev read; replaced if it is there.

    Raises:
        MachineError: the trace can't be written.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.no_grad():
        for _ in range(WARM_UP):
            step()
        seconds = [_timed(step, device) for _ in range(num_steps)]
        with torch_profile(activities=activities) as profiler:
            profiled = [_timed(step, device) for _ in range(num_steps)]
    if trace is not None:
        _export(profiler, trace)
    runs = _gpu_runs(profiler.events()) if on_gpu else _cpu_runs(profiler.events())
    return Recording(
        num_steps, 1e3 * statistics.median(seconds), 1e3 * statistics.mean(profiled), tuple(group_kernels(runs))
    )


def check_trace(trace: Path, overwrite: bool) -> None:
    """Refuse a trace file that can't be written, before any work is done.

    Raises:
        ArtifactError: another suffix, a folder that is missing or read-only, or a file that is there already.
    """
    if not trace.name.endswith(SUFFIXES):
        raise ArtifactError(
            "unwritable", f"--trace {trace}: a trace is JSON. Call it NAME.json, or NAME.json.gz to have it compressed."
        )
    if not trace.parent.is_dir():
        raise ArtifactError(
            "unwritable", f"--trace {trace}: there is no folder {trace.parent}. Make it, or choose another place."
        )
    if not os.access(trace.parent, os.W_OK | os.X_OK):
        raise ArtifactError("unwritable", f"--trace {trace}: nothing can be written there. Choose another place.")
    if trace.is_dir():
        raise ArtifactError("unwritable", f"--trace {trace} is a folder. Name a file in it.")
    refuse_inside_artifact(trace, "--trace")
    if trace.exists() and not overwrite:
        raise ArtifactError(
            "exists", f"--trace {trace} exists and is left alone. Add --overwrite, or choose another name."
        )


@contextmanager
def packages_marked(module: nn.Module) -> Iterator[int]:
    """Let the profiler see each call of a package, under `PACKAGE_MARK` and the class of its layer.

    On a CPU the code inside of a package is called past torch's dispatcher and would not show at all. Gives the number
    of layers that run packages.
    """
    with ExitStack() as stack:
        count = 0
        for layer in module.modules():
            forward = vars(layer).get("forward")
            if isinstance(forward, CompiledForward):
                count += 1
                layer.forward = _marked(forward, PACKAGE_MARK + type(layer).__name__)  # type: ignore[method-assign]
                stack.callback(setattr, layer, "forward", forward)
        yield count


def _marked(forward: Callable[..., Any], name: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with record_function(name):
            return forward(*args, **kwargs)

    return run


def _timed(step: Callable[[], Any], device: torch.device) -> float:
    _finish(device)
    started = time.perf_counter()
    step()
    _finish(device)
    return time.perf_counter() - started


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cpu_runs(events: Any) -> Iterator[tuple[str, str, float]]:
    """Operators with the time they take themselves. An operator inside of attention is attention, whatever it is."""
    for event in events:
        if _AROUND_KERNELS.match(event.name):
            continue
        group = _group_of_callers(event)
        if group == OTHER or event.name.startswith(PACKAGE_MARK):
            group = group_of(event.name)
        yield event.name, group, event.self_cpu_time_total / 1e3


def _gpu_runs(events: Any) -> Iterator[tuple[str, str, float]]:
    """Kernels with the time they take on the GPU. What their names don't tell, the operator that started them does."""
    started: Counter[str] = Counter()
    for event in events:
        for kernel in event.kernels:
            if not kernel.name.startswith(_ANNOTATIONS):
                started[kernel.name] += 1
                yield kernel.name, _group_on_gpu(kernel.name, event), kernel.duration / 1e3
    for event in events:
        if event.device_type != DeviceType.CUDA or event.is_user_annotation or event.name.startswith(_ANNOTATIONS):
            continue
        if started[event.name]:
            started[event.name] -= 1  # one of those that an operator is known to have started
        else:
            yield event.name, group_of(event.name), event.time_range.elapsed_us() / 1e3


def _group_on_gpu(name: str, starter: Any) -> str:
    group = group_of(name)
    callers = _group_of_callers(starter) if group in (OTHER, "copies") else OTHER
    return group if callers == OTHER else callers


def _group_of_callers(event: Any) -> str:
    """Group of the outermost operator around an event that has one; packages are no such operator."""
    group = OTHER
    while event is not None:
        own = OTHER if event.name.startswith(PACKAGE_MARK) else group_of(event.name)
        group = own if own != OTHER else group
        event = event.cpu_parent
    return group


def _is_whole(trace: Path) -> bool:
    """Whether a trace is there up to its last brace: torch says nothing where it could not write."""
    if not trace.exists():
        return False
    last = b""
    with gzip.open(trace) if trace.suffix == ".gz" else trace.open("rb") as file:
        while part := file.read(1 << 20):
            last = (last + part)[-64:]
    return last.rstrip().endswith(b"}")


def _export(profiler: Any, trace: Path) -> None:
    """Write the trace beside its place and move it there, so that an interruption leaves no half of one."""
    suffix = next(suffix for suffix in reversed(SUFFIXES) if trace.name.endswith(suffix))
    partial = trace.with_name(f".{trace.name}.{os.getpid()}{suffix}")
    try:
        profiler.export_chrome_trace(str(partial))
        if not _is_whole(partial):
            raise OSError("torch wrote no whole trace; is the disk full, or the one of temporary files?")
        partial.replace(trace)
    except OSError as error:
        raise MachineError(
            f"--trace {trace}: can't be written ({error.strerror or error}). Choose another place."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
