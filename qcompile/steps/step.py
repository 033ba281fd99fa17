"""What every step of a recipe is, and what it is given to look at and to work with.

Steps import torch and what needs it inside their methods: a recipe is read and validated without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pydantic

from qcompile.change import Change
from qcompile.package import Package
from qcompile.progress import Progress

if TYPE_CHECKING:
    from torch import nn

    from qcompile.aot.callspec import Arguments


class Phase(IntEnum):
    """Steps run in the recipe's order, and their phases must not go down along it."""

    LORA = 0
    REWRITE = 1
    QUANTIZE = 2
    COMPILE = 3


@dataclass(frozen=True)
class Target:
    """One component as a step sees it while planning: on meta in `plan`, for real in `apply`."""

    index: int
    """The step's index in the recipe."""
    component: str
    module: nn.Module
    is_denoiser: bool
    device_type: str
    """Where the artifact will run: `cpu` or `cuda`."""
    compiled: bool
    """Whether a later step compiles this component."""
    earlier: tuple[Change, ...]
    """What earlier steps do to this component."""
    rows: Callable[[], Mapping[str, tuple[int, ...]]]
    """Rows that each linear sees in one call, by dotted name, one number a declared shape."""

    def place(self, kind: str) -> str:
        """Where the step stands in the recipe, for messages."""
        return f"steps.{self.index}.{kind}"


@dataclass
class Workshop:
    """What a step may use while it changes a real component."""

    calls: Mapping[str, Arguments]
    """Captured arguments of the component's forward by shape label."""
    root: Path
    """The artifact folder being written."""
    progress: Progress
    max_compiled_error: float
    """Bound on the relative error of compiled against eager output."""
    packages: list[Package] = field(default_factory=list)
    """What compile steps built; the runner installs and records it."""


class Step(pydantic.BaseModel):
    """One entry of a recipe's `steps`. A subclass is the step's options; its docstring is the schema's description."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    phase: ClassVar[Phase]

    component: str = pydantic.Field(
        # It names a folder of the artifact.
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="component of the pipeline: transformer, unet, vae, text_encoder, …",
    )

    def changes(self, target: Target) -> tuple[Change, ...]:
        """Say for every module concerned what will happen or why not. Changes nothing.

        Raises:
            PlanError: the step does not fit this component.
        """
        raise NotImplementedError

    def restructure(self, module: nn.Module) -> None:
        """Change the component's structure. Runs alike on meta in `plan` and `load` and for real in `apply`."""

    def apply(self, module: nn.Module, changes: tuple[Change, ...], workshop: Workshop) -> None:
        """Change the component's values or build code for it. Runs in `apply` only, after `restructure`."""

    def prepare(self, module: nn.Module) -> None:
        """Redo after `load` what can't be saved (a JIT compilation)."""
