"""Compiling one component: which packages its calls need, each built once and compared with eager output."""

import io
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcompile.aot.bind import Binding
from qcompile.aot.callspec import Arguments, invoke, leaves
from qcompile.aot.capture import LayerCalls, capture_calls
from qcompile.aot.compare import relative_error
from qcompile.aot.export import lift
from qcompile.aot.groups import group_alike
from qcompile.aot.options import BASE, for_compiler
from qcompile.aot.runtime import LoadedPackage
from qcompile.errors import StepError, VerifyError
from qcompile.modules import repeated_blocks
from qcompile.package import CallSpec, Package
from qcompile.progress import Progress, stage


def targets_of(module: nn.Module, scope: str) -> dict[str, nn.Module]:
    """The modules that are compiled, by dotted name: the repeated blocks, or for `full` the component as `""`."""
    return {"": module} if scope == "full" else repeated_blocks(module)


def build_packages(
    component: str,
    targets: Mapping[str, nn.Module],
    runs: Mapping[str, Callable[[], Any]],
    root: Path,
    progress: Progress,
    max_relative_error: float,
    inductor: Mapping[str, Any] = BASE,
    settle: Callable[[nn.Module], None] = lambda module: None,
) -> list[Package]:
    """Compile modules of a component for the calls that happen to them.

    Args:
        component: its name in the pipeline; packages go to `root/compiled/component/SHAPE/CLASS.pt2`.
        targets: what is compiled, by dotted name inside the component; quantized and in eval mode, left as they are.
        runs: run the component for one declared shape each, by label.
        root: the artifact folder being written.
        progress: told of each package.
        max_relative_error: bound on ‖compiled − eager‖ / ‖eager‖ of the first, middle and last layer of each package.
        inductor: compiler options other than inductor's defaults; recorded with every package.
        settle: moves a module whose weights are elsewhere to where it runs; called with those that code is made from.

    Returns:
        One record for each file written.

    Raises:
        StepError: export or compilation failed.
        VerifyError: compiled output differs from eager output by more than the bound.
    """
    groups = group_alike(targets)
    built: dict[tuple[int, object], Package] = {}
    for label, run in runs.items():
        seen = _capture(targets, groups, run)
        for index, group in enumerate(groups):
            for key, layers in _layers_by_call(group, seen).items():
                known = built.get((index, key))
                if known is not None:
                    # Two declared shapes can come to the same call, 96x192 and 192x96 for one.
                    built[index, key] = _with_shape(known, label, layers)
                    continue
                block = type(targets[next(iter(layers))]).__name__
                file = _free_name(root, f"compiled/{component}/{label}", block)
                for name, spec in layers.items():
                    if (name, spec) in seen.arguments:
                        settle(targets[name])
                with stage(progress, f"compile {block} for {label} ({len(layers)} {_noun(layers)})"):
                    built[index, key] = _build(component, targets, layers, seen, root, file, label, inductor)
                check_errors(built[index, key], max_relative_error)
    return list(built.values())


def _capture(targets: Mapping[str, nn.Module], groups: list[list[str]], run: Callable[[], Any]) -> LayerCalls:
    group_of = {name: index for index, group in enumerate(groups) for name in group}
    probes = {group[index] for group in groups for index in (0, len(group) // 2, -1)}
    met: set[tuple[int, object]] = set()

    def keep(name: str, spec: CallSpec) -> bool:
        first = (group_of[name], spec.key()) not in met
        met.add((group_of[name], spec.key()))
        return first or name in probes

    return capture_calls(targets, run, keep)


def _layers_by_call(group: list[str], seen: LayerCalls) -> dict[object, dict[str, CallSpec]]:
    """Layers and their specs by the identity of the call; strides may differ from layer to layer."""
    layers: dict[object, dict[str, CallSpec]] = {}
    for name in group:
        for spec in seen.specs[name]:
            layers.setdefault(spec.key(), {})[name] = spec
    return layers


def _build(
    component: str,
    targets: Mapping[str, nn.Module],
    layers: Mapping[str, CallSpec],
    seen: LayerCalls,
    root: Path,
    file: str,
    label: str,
    inductor: Mapping[str, Any],
) -> Package:
    started = time.perf_counter()
    captured = {name: seen.arguments[name, spec] for name, spec in layers.items() if (name, spec) in seen.arguments}
    exported = _most_alike(layers, captured)
    lifted = lift(targets[exported], captured[exported])
    _compile(lifted.program, root / file, type(targets[exported]).__name__, inductor)
    package = Package(
        component=component,
        file=file,
        block=type(targets[exported]).__name__,
        layers=tuple(layers),
        shapes=(label,),
        call=layers[exported],
        inputs=lifted.inputs,
        output=lifted.output,
        inductor=dict(inductor),
        relative_errors={},
        build_seconds=round(time.perf_counter() - started, 3),
    )
    tensors = [leaf for leaf in leaves(captured[exported]).values() if isinstance(leaf, torch.Tensor)]
    index = tensors[0].device.index
    loaded = LoadedPackage(root / file, package, -1 if index is None else index)
    return replace(package, relative_errors={name: _error(targets[name], captured[name], loaded) for name in captured})


def _most_alike(layers: Mapping[str, CallSpec], captured: Mapping[str, Arguments]) -> str:
    """Of the captured layers the one whose arguments lie in memory as those of most layers do, the last of equals.

    All others get copies in that layout at every call. The first layer is often the odd one: what an embedding by
    convolution gives is transposed, and inductor makes invalid C++ of reductions over such rows (torch 2.13, bfloat16).
    """
    strides = {name: tuple(tensor.stride for tensor in spec.tensors) for name, spec in layers.items()}
    count = Counter(strides.values())
    return max(reversed(list(captured)), key=lambda name: count[strides[name]])


def _compile(program: torch.export.ExportedProgram, path: Path, block: str, inductor: Mapping[str, Any]) -> None:
    # Through memory: where the disk is full, torch's own writer of files ends the whole process.
    content = io.BytesIO()
    # torch writes what it knows of the device into this dict, which is the process' own unless another is given.
    own = torch._inductor.config.patch({"aot_inductor.metadata": {}})
    try:
        with own:
            torch._inductor.aoti_compile_and_package(
                program, package_path=content, inductor_configs=for_compiler(inductor)
            )
    except RuntimeError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        # Of a compiler's output the first error says more than the first line, which is the command.
        found = [line.partition(" error: ")[2] for line in lines if " error: " in line]
        raise StepError(
            f"AOTInductor could not compile {block}: {': '.join([lines[0], *found[:1]])}. `qcompile doctor` checks the "
            "compiler; `mode: jit` compiles at load instead."
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())


def _error(module: nn.Module, arguments: Arguments, loaded: LoadedPackage) -> float:
    with torch.no_grad():
        eager = invoke(partial(type(module).forward, module), arguments)
        compiled = Binding(module, loaded).run(leaves(arguments))
    return relative_error(compiled, eager)


def check_errors(package: Package, bound: float) -> None:
    """Refuse a package that computes something else than eager code does.

    Raises:
        VerifyError: a measured relative error is above `bound`, or not a number.
    """
    for layer, error in package.relative_errors.items():
        if not error <= bound:  # NaN is not within any bound
            raise VerifyError(
                f"compiled {package.block} differs from eager: relative error {error:.4g} in "
                f"{layer or package.component} for {package.shapes[0]}, at most {bound:g} is allowed "
                "(verify.max_compiled_error). Nothing was written."
            )


def _with_shape(package: Package, label: str, layers: Mapping[str, CallSpec]) -> Package:
    shapes = package.shapes if label in package.shapes else (*package.shapes, label)
    return replace(package, shapes=shapes, layers=tuple(dict.fromkeys((*package.layers, *layers))))


def _noun(layers: Mapping[str, CallSpec]) -> str:
    return "layer" if len(layers) == 1 else "layers"


def _free_name(root: Path, folder: str, block: str) -> str:
    count = 1
    while (root / (file := f"{folder}/{block}{'' if count == 1 else f'_{count}'}.pt2")).exists():
        count += 1
    return file
