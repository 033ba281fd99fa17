"""Recipes that make diffusion pipelines small and fast: quantized weights and compiled code in one artifact.

    plan     = qcompile.plan("recipes/flux_mini_int8.yaml")
    artifact = qcompile.apply("recipes/flux_mini_int8.yaml", out="flux-mini-int8")
    pipe     = qcompile.load("flux-mini-int8")

Importing this package loads neither torch nor diffusers; the first use of a name does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qcompile.errors import (
    ArtifactError,
    CallError,
    EnvironmentMismatch,
    MachineError,
    ModelError,
    PlanError,
    QcompileError,
    RecipeError,
    StepError,
    VerifyError,
)
from qcompile.noise import quiet_imports
from qcompile.version import __version__

if TYPE_CHECKING:
    from qcompile.artifact.read import Artifact
    from qcompile.opening import load
    from qcompile.planner import Plan, plan
    from qcompile.recipe import Recipe
    from qcompile.runner import apply

_HOMES = {
    "Artifact": "qcompile.artifact.read",
    "Plan": "qcompile.planner",
    "Recipe": "qcompile.recipe",
    "apply": "qcompile.runner",
    "load": "qcompile.opening",
    "plan": "qcompile.planner",
}

__all__ = [
    "Artifact",
    "ArtifactError",
    "CallError",
    "EnvironmentMismatch",
    "MachineError",
    "ModelError",
    "Plan",
    "PlanError",
    "QcompileError",
    "Recipe",
    "RecipeError",
    "StepError",
    "VerifyError",
    "__version__",
    "apply",
    "load",
    "plan",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'qcompile' has no attribute {name!r}")
    with quiet_imports():
        return getattr(import_module(_HOMES[name]), name)
