"""What `verify` found."""

from dataclasses import dataclass, field

from qcompile.environment import Environment
from qcompile.quality.bounds import Check, Measured
from qcompile.quality.tasks import Task
from qcompile.quality.trajectory import Trajectory


@dataclass(frozen=True)
class Arm:
    """One pipeline that was held against the original."""

    name: str
    """`control` or `artifact`."""
    label: str
    """What it is, for people."""
    measured: Measured
    perceptual: dict[str, float] = field(default_factory=dict)
    """Medians of the metrics asked for besides: `lpips`, `clip_score`."""


@dataclass(frozen=True)
class Sensitivity:
    """What one layer, or the layers of one role, add to the error of the denoiser's output."""

    name: str
    """Dotted name; for a role with `*` in place of the block's index."""
    layers: tuple[str, ...]
    scheme: str
    error_without: float
    """Mean relative error with these layers' original weights back in place, all others quantized."""
    adds: float
    """Mean relative error of the whole less `error_without`."""
    bytes_saved: int
    """By quantizing them."""


@dataclass(frozen=True)
class SensitivityTable:
    """Sensitivities, the worst first."""

    error: float
    """Mean relative error of the quantized denoiser, run eagerly, over `calls`."""
    calls: tuple[int, ...]
    """The calls of the trajectory that were looked at, by index from 0."""
    rows: tuple[Sensitivity, ...]


@dataclass(frozen=True)
class Suggestion:
    """Layers to exclude from quantization so that every bound on the figures is met."""

    excluded: tuple[str, ...]
    """Globs; empty where the bounds are met already."""
    layers: tuple[str, ...]
    """The layers they stand for."""
    bytes_lost: int
    """By which the weights grow."""
    fragments: dict[int, str]
    """Step index to YAML that takes the place of that step's `layers`."""
    checks: tuple[Check, ...]
    """The bounds with the layers excluded, as measured on the quantized model run eagerly."""
    emptied: tuple[int, ...] = ()
    """Indices of steps that would have no layer left; they have no fragment."""


@dataclass(frozen=True)
class Report:
    """An artifact and its control against the original."""

    recipe: str
    recipe_version: int
    recipe_sha256: str
    environment: Environment
    """Where it was measured."""
    model: str
    shape: str
    """Label of the shape whose trajectory and images these are."""
    tasks: tuple[Task, ...]
    trajectory: Trajectory
    original_score_percent: float | None
    arms: tuple[Arm, ...]
    no_control: str | None
    """Why there is no control arm; None where there is."""
    checks: tuple[Check, ...]
    sensitivity: SensitivityTable | None = None
    suggestion: Suggestion | None = None
    no_suggestion: str | None = None
    """Why no choice of layers meets the bounds, where one was asked for."""

    @property
    def holds(self) -> bool:
        """Whether every bound does, and can be met where a suggestion was asked for."""
        return all(check.holds for check in self.checks) and self.no_suggestion is None
