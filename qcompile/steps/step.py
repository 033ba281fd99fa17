"""What every step of a recipe is, and what it is given to look at and to work with.

Steps import torch and what needs it inside their methods: a recipe is read and validated without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

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


NOTHING: Mapping[str, Any] = MappingProxyType({})
"""No compiler options."""


@dataclass(frozen=True)
class Target:
    """What a step acts on as it sees it while planning: on meta in `plan`, for real in `apply`."""

    index: int
    """The step's index in the recipe."""
    component: str
    """Name of the component; for a `PipelineStep` that of the denoiser."""
    module: nn.Module
    """The component; for a `PipelineStep` the denoiser."""
    is_denoiser: bool
    device_type: str
    """Where the artifact will run: `cpu` or `cuda`."""
    compiled: bool
    """Whether a later step compiles this component."""
    earlier: tuple[Change, ...]
    """What earlier steps do to this component."""
    rows: Callable[[], Mapping[str, tuple[int, ...]]]
    """Rows that each linear sees in one call, by dotted name, one number a declared shape."""
    pipeline: Any = None
    """The pipeline around the component; None where a recipe is applied to a bare model."""
    inductor: Mapping[str, Any] = field(default_factory=dict)
    """Compiler options that earlier `inductor` steps set for this component."""

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
    pipeline: Any = None
    """The pipeline around the component; None for a bare model."""
    settle: Callable[[nn.Module], None] = lambda module: None
    """Moves a part of the component to where it runs; to be called with what is going to be changed or looked into."""
    inductor: Mapping[str, Any] = field(default_factory=dict)
    """Compiler options that earlier `inductor` steps set for this component."""
    part_calls: Callable[[str, str], Mapping[str, Arguments]] | None = None
    """Captures the arguments of a part of a component, `("vae", "decoder")`, from real calls, by shape label."""
    alone: Callable[[], AbstractContextManager[None]] = nullcontext
    """Keeps the denoiser's weights off the GPU in its body, where an autoencoder is compiled, and run on the way."""
    packages: list[Package] = field(default_factory=list)
    """What compile steps built; the runner installs and records it."""


class Step(pydantic.BaseModel):
    """One entry of a recipe's `steps`. A subclass is the step's options; its docstring is the schema's description.

    Derive from `ComponentStep` or `PipelineStep`.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    phase: ClassVar[Phase]

    @property
    def owner(self) -> str | None:
        """Name of the one component that the step acts on; None where it takes the pipeline."""
        return None

    def changes(self, target: Target) -> tuple[Change, ...]:
        """Say for every module concerned what will happen or why not. Changes nothing.

        Raises:
            PlanError: the step does not fit this component.
        """
        raise NotImplementedError

    def restructure(self, module: Any) -> None:
        """Change the component's (or pipeline's) structure: on meta in `plan` and `load`, for real in `apply`."""

    def apply(self, module: Any, changes: tuple[Change, ...], workshop: Workshop) -> None:
        """Change values or build code. Runs in `apply` only, after `restructure`."""

    def prepare(self, module: Any, inductor: Mapping[str, Any] = NOTHING) -> None:
        """Redo after `load` what can't be saved (a JIT compilation).

        Args:
            module: the component or pipeline.
            inductor: compiler options that earlier steps set for it.
        """


class ComponentStep(Step):
    """A step that acts on one component."""

    component: str = pydantic.Field(
        # It names a folder of the artifact.
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="component of the pipeline: transformer, unet, vae, text_encoder, … or denoiser, the one that runs "
        "at every step, whatever it is called",
    )

    @property
    def owner(self) -> str | None:
        return self.component


class PipelineStep(Step):
    """A step that acts on the pipeline; its changes name the components concerned."""
