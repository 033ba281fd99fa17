"""Graph breaks and recompilations of what torch.compile is given, found without generating any code."""

import linecache
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any

import torch
from torch import nn
from torch._dynamo.backends.debugging import ExplainWithBackend
from torch._dynamo.convert_frame import input_codes
from torch._dynamo.eval_frame import reset_code
from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.utils import counters, get_compilation_metrics

from qcompile.errors import PlanError
from qcompile.profiler.advice import for_break, for_recompilation

_INDEX = re.compile(r"^\d+/\d+: ")
_GIVEN_UP = "the whole function runs eagerly: "
_RESUMED = re.compile(r"^torch_dynamo_resume_in_(\w+)_at_\d+$")


@dataclass(frozen=True)
class GraphBreak:
    """A place where torch.compile cuts a graph in two and goes back to Python."""

    place: str
    """`file:line`; empty where torch does not tell it."""
    function: str
    line: str
    """The source line."""
    reason: str
    count: int
    """How often it was met: once for each compilation of the function around it."""
    advice: str


@dataclass(frozen=True)
class Recompilation:
    """A function that was compiled once more, because what it was compiled for no longer held."""

    place: str
    """`file:line` of the function."""
    function: str
    shape: str
    """Label of the declared shape that was run."""
    guard: str
    """What no longer held."""
    advice: str


@dataclass(frozen=True)
class Tracing:
    """What torch.compile makes of modules that are called for several shapes, one after the other."""

    num_graphs: int
    num_compilations: int
    breaks: tuple[GraphBreak, ...]
    recompilations: tuple[Recompilation, ...]


def trace(targets: Mapping[str, nn.Module], runs: Mapping[str, Callable[[], Any]], dynamic: bool | None) -> Tracing:
    """Run modules under torch.compile with a backend that only looks at the graphs.

    The modules are left as they were. Code that torch.compile made for their classes earlier in this process is
    forgotten and made anew when it is next called; nothing else of torch's state is touched.

    Args:
        targets: the modules that would be compiled, by dotted name.
        runs: for each shape by label, a call of the model they are part of.
        dynamic: torch.compile's argument of that name.

    Raises:
        PlanError: torch.compile fails on them.
    """
    explainer = ExplainWithBackend("eager")
    # Held on to: torch drops old ones, and a new one may get the identity of what is gone.
    before = get_compilation_metrics()
    known = {id(entry) for entry in before}
    counted = Counter(counters["graph_break"])
    names = {_place(code): f"{type(module).__name__}.forward" for module, code in _codes(targets)}
    recompilations: list[Recompilation] = []
    entries: list[Any] = []
    with _compiled_by(explainer, targets, dynamic) as compiled, _without_messages(), torch.no_grad():
        for label, run in runs.items():
            try:
                run()
            except TorchDynamoException as error:
                # The first line of torch's message may name the backend only.
                message = " ".join(str(error).strip().splitlines()[:2]) or "no message"
                raise PlanError(
                    f"torch.compile fails on {', '.join({type(module).__name__ for module in targets.values()})} for "
                    f"{label}: {type(error).__name__}: {message}. Profile with --eager, and leave what fails out of "
                    "the compile step."
                ) from error
            # torch keeps the last 64 only, so they are read after every shape.
            new = [entry for entry in get_compilation_metrics() if id(entry) not in known]
            known |= {id(entry) for entry in new}
            compiled |= {f"{entry.co_filename}:{entry.co_firstlineno}" for entry in new}
            entries += new
            recompilations += [_recompilation(entry, label, dynamic, names) for entry in new if entry.recompile_reason]
    counted = Counter(counters["graph_break"]) - counted
    breaks = _breaks(explainer.break_reasons, entries, counted)
    return Tracing(len(explainer.graphs), len(entries), breaks, tuple(recompilations))


def _breaks(found: list[Any], entries: list[Any], counted: Mapping[str, int]) -> tuple[GraphBreak, ...]:
    """Breaks that are alike as one.

    Args:
        found: breaks that end a graph, with their place.
        entries: torch's records of what it compiled, which know of functions it gave up as well.
        counted: reasons of all breaks.
    """
    times: Counter[tuple[str, str, str, str]] = Counter()
    for item in found:
        frame = item.user_stack[-1] if item.user_stack else None
        place = (f"{frame.filename}:{frame.lineno}", frame.name, frame.line or "") if frame else ("", "", "")
        times[(*place, item.reason)] += 1
    ended = {item.reason for item in found}
    for entry in entries:
        function = entry.co_name or ""
        if entry.fail_reason:
            file, number = entry.fail_user_frame_filename, entry.fail_user_frame_lineno
            line = linecache.getline(file, number) if file and number else ""
            times[f"{file}:{number}" if line else "", function, line, f"{_GIVEN_UP}{entry.fail_reason}"] += 1
        # Before the first operator of a function there is no graph to end. Restarts have other reasons too.
        for reason in (entry.restart_reasons or set()) & counted.keys() - ended:
            times[f"{entry.co_filename}:{entry.co_firstlineno}", function, "", reason] += 1
    return tuple(
        GraphBreak(place, _plain(function), line.strip(), _first_line(reason), count, for_break(reason))
        for (place, function, line, reason), count in times.items()
    )


def _recompilation(entry: Any, label: str, dynamic: bool | None, names: Mapping[str, str]) -> Recompilation:
    guard = _INDEX.sub("", _first_line(entry.recompile_reason))
    place = f"{entry.co_filename}:{entry.co_firstlineno}"
    function = names.get(place) or _plain(entry.co_name or "")
    return Recompilation(place, function, label, guard, for_recompilation(guard, dynamic))


def _codes(targets: Mapping[str, nn.Module]) -> Iterator[tuple[nn.Module, CodeType]]:
    for module in targets.values():
        yield module, type(module).forward.__code__


def _place(code: CodeType) -> str:
    return f"{code.co_filename}:{code.co_firstlineno}"


def _first_line(reason: str) -> str:
    first = reason.strip().partition("\n")[0]
    # torch's own words for a branch on a value, which name the bytecode.
    return "branch on the value of a tensor" if first.startswith("generic_jump TensorVariable") else first


def _plain(function: str) -> str:
    """The function's own name, where torch goes on in the middle of it."""
    found = _RESUMED.match(function)
    return found[1] if found else function


@contextmanager
def _compiled_by(backend: Any, targets: Mapping[str, nn.Module], dynamic: bool | None) -> Iterator[set[str]]:
    """Hand modules to torch.compile in the body, which adds the places of what was compiled to the set it is given."""
    before = {module: module._compiled_call_impl for module in targets.values()}
    compiled = {_place(code) for _, code in _codes(targets)}
    _forget(compiled)
    try:
        for module in targets.values():
            module.compile(backend=backend, dynamic=dynamic)
        yield compiled
    finally:
        for module, call in before.items():
            module._compiled_call_impl = call
        _forget(compiled)


def _forget(places: set[str]) -> None:
    """Drop what torch.compile holds for functions at `places`; torch knows no narrower way but to reset all."""
    for reference in list(input_codes.seen):
        code = reference()
        if code is not None and _place(code) in places:
            reset_code(code)


@contextmanager
def _without_messages() -> Iterator[None]:
    """torch logs some breaks as warnings; here they are reported as findings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
