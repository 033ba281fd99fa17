"""One module becomes a graph whose parameters and buffers are inputs, so that code compiled from it holds no weights.

The module is exported once; the graph that `torch.export` gives takes parameters, buffers and arguments as
placeholders. Exported a second time as a function of all its placeholders, it has no state left. Two things stay
baked in: constants the module computes or holds outside parameters and buffers, and arguments that are not tensors.
Modules share a package only where both are equal (`groups`).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._functorch.compile_utils import fx_graph_cse
from torch.export.graph_signature import InputKind, OutputKind

from qcompile.aot.callspec import Arguments, dtype_name, invoke, leaves, rebuild
from qcompile.errors import StepError
from qcompile.modules import inner_tensors, twin_of
from qcompile.package import LiftedInput

_PREFIX = "module."
"""Where `_ByTensors` holds the exported module."""


@dataclass(frozen=True)
class Lifted:
    """A stateless graph and what goes in and out of it."""

    program: torch.export.ExportedProgram
    inputs: tuple[LiftedInput, ...]
    output: Any
    """Shape of the output: an index for a tensor, `{"tuple": [...]}`, `{"list": [...]}`, None."""


class _ByTensors(nn.Module):
    """Calls a module with the tensors of one call; everything else of the call is fixed."""

    def __init__(self, module: nn.Module, template: Arguments) -> None:
        super().__init__()
        self.module = module
        self.template = template

    def forward(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        result = invoke(self.module, rebuild(self.template, iter(tensors)))
        flat: list[torch.Tensor] = []
        describe_output(result, flat)
        return flat


class _Functional(nn.Module):
    """A lifted graph with its constants held, as a function of everything else."""

    def __init__(self, graph: torch.fx.GraphModule, constants: list[torch.Tensor | None]) -> None:
        super().__init__()
        self.graph = graph
        self.holds = [constant is not None for constant in constants]
        for index, constant in enumerate(constants):
            if constant is not None:
                self.register_buffer(f"constant_{index}", constant)

    def forward(self, *inputs: torch.Tensor) -> Any:
        given = iter(inputs)
        return self.graph(
            *(getattr(self, f"constant_{index}") if held else next(given) for index, held in enumerate(self.holds))
        )


def lift(module: nn.Module, arguments: Arguments) -> Lifted:
    """Export `module` for one call, its parameters and buffers turned into inputs.

    The module itself is left as it is: exporting swaps the parts of subclass weights in place, so a twin is exported.
    It shares the module's memory, of which a whole denoiser takes most.

    Raises:
        StepError: the module changes its own state or its arguments, or returns something else than tensors in tuples.
    """
    caller = _ByTensors(twin_of(module), arguments)
    given = [leaf for leaf in leaves(arguments).values() if isinstance(leaf, torch.Tensor)]
    with torch.no_grad():
        output = describe_output(invoke(partial(type(module).forward, module), arguments), [])
        program = _export(caller, given, type(module).__name__)
        _refuse_mutation(program, module)
        # Layers that read one tensor quantize it each on its own, q, k and v for three; inductor does not see that they
        # do the same, and its C++ for such reductions does not even compile where they lie side by side (torch 2.13).
        program.graph_module.graph = fx_graph_cse(program.graph_module.graph)
        inputs, values, constants = _placeholders(program, module, arguments)
        functional = torch.export.export(_Functional(program.graph_module, constants), tuple(values), strict=False)
    return Lifted(functional, inputs, output)


def _export(caller: nn.Module, given: list[torch.Tensor], block: str) -> torch.export.ExportedProgram:
    try:
        exported = torch.export.export(caller, tuple(given), strict=False)
        program: torch.export.ExportedProgram = exported.run_decompositions({})
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise StepError(
            f"{block} can't be exported: {first_line}. Code that decides by the values of tensors can't be compiled "
            "ahead of time; leave this component uncompiled, or use mode: jit."
        ) from error
    return program


def _placeholders(
    program: torch.export.ExportedProgram, module: nn.Module, arguments: Arguments
) -> tuple[tuple[LiftedInput, ...], list[torch.Tensor], list[torch.Tensor | None]]:
    """What each placeholder of `program` is: the inputs kept, their example values, and the constants by position."""
    calls = iter([(path, leaf) for path, leaf in leaves(arguments).items() if isinstance(leaf, torch.Tensor)])
    inputs, values = [], []
    constants: list[torch.Tensor | None] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.CONSTANT_TENSOR:
            constants.append(program.constants[str(spec.target)])
            continue
        part: int | None
        if spec.kind is InputKind.USER_INPUT:
            (name, value), part = next(calls), None
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            name, part = _owner(str(spec.target).removeprefix(_PREFIX))
            value = list(inner_tensors(tensor_of(module, name)))[part]
        else:
            raise StepError(f"{type(module).__name__}: export made an input of kind {spec.kind}, which can't be lifted")
        constants.append(None)
        value = value.detach()
        values.append(value)
        inputs.append(LiftedInput(name, part, dtype_name(value.dtype), tuple(value.shape), tuple(value.stride())))
    return tuple(inputs), values, constants


def _owner(target: str) -> tuple[str, int]:
    """Parameter name and part of an export target: `q.parametrizations.weight.original1` is part 1 of `q.weight`."""
    head, found, tail = target.rpartition("parametrizations.")
    if not found:
        return target, 0
    name, _, original = tail.rpartition(".original")
    return f"{head}{name}", int(original)


def tensor_of(module: nn.Module, name: str) -> torch.Tensor:
    """The parameter or buffer of dotted `name`."""
    owner, _, leaf = name.rpartition(".")
    return getattr(module.get_submodule(owner), leaf)  # type: ignore[no-any-return]


def describe_output(result: Any, tensors: list[torch.Tensor]) -> Any:
    """Describe how `result` holds tensors, and append them to `tensors`.

    Raises:
        StepError: it holds something else than tensors, None, lists and tuples.
    """
    if isinstance(result, torch.Tensor):
        tensors.append(result)
        return len(tensors) - 1
    if result is None:
        return None
    if type(result) in (tuple, list):
        return {type(result).__name__: [describe_output(inner, tensors) for inner in result]}
    raise StepError(
        f"a compiled module must return tensors, lists and tuples, not {type(result).__name__}; "
        "call it with return_dict=False (a bare model: in its example_inputs), or leave this component uncompiled"
    )


def rebuild_output(template: Any, tensors: list[torch.Tensor]) -> Any:
    """The inverse of `describe_output`."""
    if isinstance(template, int):
        return tensors[template]
    if template is None:
        return None
    if "tuple" in template:
        return tuple(rebuild_output(inner, tensors) for inner in template["tuple"])
    return [rebuild_output(inner, tensors) for inner in template["list"]]


def _refuse_mutation(program: torch.export.ExportedProgram, module: nn.Module) -> None:
    changed = [spec for spec in program.graph_signature.output_specs if spec.kind is not OutputKind.USER_OUTPUT]
    if changed:
        raise StepError(
            f"{type(module).__name__} changes {changed[0].target} while it runs; code with lifted weights can't do "
            "that. Leave this component uncompiled, or use mode: jit."
        )
