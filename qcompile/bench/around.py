"""What brings an arm about: a pipeline's parts under torch.compile, or running packages, and as they were after it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcompile import recipe as recipes
from qcompile.aot.dispatch import install
from qcompile.aot.options import for_compiler, no_silent_eager, options_of
from qcompile.aot.runtime import LoadedPackage
from qcompile.artifact.read import Artifact
from qcompile.steps.compile import Compile

Around = Callable[[], AbstractContextManager[None]]


def compile_steps(artifact: Artifact) -> list[tuple[Compile, dict[str, Any]]]:
    """The recipe's compile steps with their compiler options; blocks at default options for a denoiser without one."""
    denoiser = artifact.manifest.denoiser
    recipe = recipes.parse(artifact.recipe_text, f"{artifact.folder}/recipe.yaml").naming(denoiser)
    found = [
        (step, options_of(step.tuning, recipe.inductor_options(index)))
        for index, step in enumerate(recipe.steps)
        if isinstance(step, Compile)
    ]
    if all(step.component != denoiser for step, _ in found):
        found.append((Compile(component=denoiser, mode="jit"), options_of("default", {})))
    return found


def compiled(artifact: Artifact, pipeline: Any) -> Around:
    """A context in which everything that the recipe compiles, of every component, runs under torch.compile."""
    return _under_compiler(pipeline, compile_steps(artifact))


def packaged(artifact: Artifact, pipeline: Any, opened: dict[str, list[LoadedPackage]]) -> Around:
    """A context in which the artifact runs as it loads: packages where it has them, torch.compile where it says so.

    Args:
        artifact: the artifact.
        pipeline: loaded from it without packages.
        opened: its packages by component.
    """
    manifest = artifact.manifest
    rest = [pair for pair in compile_steps(artifact) if pair[0].mode == "jit" and pair[0].component not in opened]
    under_compiler = _under_compiler(pipeline, rest)

    @contextmanager
    def around() -> Iterator[None]:
        with ExitStack() as stack:
            for name, packages in opened.items():
                calls = manifest.calls if name == manifest.denoiser else None
                stack.callback(install(name, getattr(pipeline, name), packages, calls))
            stack.enter_context(under_compiler())
            yield

    return around


def open_packages(artifact: Artifact, device: torch.device) -> dict[str, list[LoadedPackage]]:
    """Open every package of an artifact, by component.

    Native code is loaded: compare environments first.

    Raises:
        MachineError: the runtime refuses one.
    """
    index = device.index if device.type == "cuda" and device.index is not None else -1
    found: dict[str, list[LoadedPackage]] = {}
    for package in artifact.manifest.packages:
        opened = LoadedPackage(Path(artifact.folder, package.file), package, index)
        found.setdefault(package.component, []).append(opened)
    return found


def _under_compiler(pipeline: Any, steps: list[tuple[Compile, dict[str, Any]]]) -> Around:
    parts: list[tuple[nn.Module, Any]] = []
    for step, options in steps:
        for part in step.targets(getattr(pipeline, step.component)).values():
            parts.append((part, torch.compile(part._call_impl, options=for_compiler(options), dynamic=step.dynamic)))

    @contextmanager
    def around() -> Iterator[None]:
        for part, code in parts:
            part._compiled_call_impl = code
        with no_silent_eager():
            try:
                yield
            finally:
                for part, _ in parts:
                    part._compiled_call_impl = None

    return around


class Graph:
    """A step as one CUDA graph, captured at the first call."""

    def __init__(self, step: Callable[[], Any], around: Around) -> None:
        self._step = step
        self._around = around
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with self._around():
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(2):
                        self._step()
                torch.cuda.current_stream().wait_stream(side)
                with torch.cuda.graph(graph):
                    self._step()
            self._graph = graph
        self._graph.replay()
