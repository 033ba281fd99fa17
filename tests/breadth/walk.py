"""One denoiser class through plan, quantize, save, load and, where asked, compile; what comes out is compared."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

import qcompile
from breadth.case import Case, arguments, build
from qcompile import recipe as recipes
from qcompile.aot.compare import relative_error
from qcompile.modules import repeated_blocks
from qcompile.recipe import Recipe

MAX_COMPILED_ERROR = 0.02
"""Relative error of compiled against eager output that is taken for equal; most classes have none at all."""


@dataclass(frozen=True)
class Walked:
    """What one class showed."""

    blocks: dict[str, int]
    """Repeated blocks by class."""
    quantized: int
    linears: int
    packages: int
    quantized_error: float
    """‖quantized − original‖ / ‖original‖."""
    compiled_error: float | None
    """‖loaded and compiled − loaded and eager‖ / ‖loaded and eager‖; None where nothing was compiled."""


def recipe_for(case: Case, compiled: bool) -> Recipe:
    """A recipe that names no architecture."""
    steps: list[dict[str, Any]] = [{"quantize": {"component": "denoiser", "scheme": case.scheme}}]
    if compiled:
        steps.append({"compile": {"component": "denoiser", "mode": "aot", "scope": "blocks"}})
    verify = {"max_relative_error": None, "max_compiled_error": MAX_COMPILED_ERROR}
    data = {"name": "breadth", "version": 1, "model": {"id": "a/model", "dtype": case.dtype}}
    return recipes.parse(yaml.safe_dump(data | {"steps": steps, "verify": verify}), "breadth.yaml")


def walk(name: str, case: Case, folder: Path, compiled: bool = False) -> Walked:
    """Take `name` through everything.

    Raises:
        AssertionError: what was loaded computes something else than what was saved.
        QcompileError: a step refused the class.
    """
    model = build(name, case, folder / "original")
    blocks = Counter(type(block).__name__ for block in repeated_blocks(model).values())
    artifact = qcompile.apply(
        recipe_for(case, compiled), model=model, example_inputs=[arguments(case)], out=folder / "artifact"
    )
    eager = _output(qcompile.load(artifact, compiled=False), case)
    loaded = _output(qcompile.load(artifact), case) if compiled else eager
    saved = _output(model, case)
    assert relative_error(loaded, saved) == 0, f"{name}: what was loaded differs from what was saved"
    changes = [change for change in artifact.manifest.changes if change.kind == "quantize"]
    errors = artifact.manifest.verification.quantized_relative_error
    assert 0 < errors["inputs0"] < 1, f"{name}: quantized output is {errors['inputs0']} away from the original"
    compiled_error = relative_error(loaded, eager) if compiled else None
    assert compiled_error is None or compiled_error <= MAX_COMPILED_ERROR
    return Walked(
        dict(blocks),
        sum(change.action is not None for change in changes),
        len(changes),
        len(artifact.manifest.packages),
        errors["inputs0"],
        compiled_error,
    )


def _output(model: Any, case: Case) -> Any:
    with torch.no_grad():
        return model(**arguments(case))
