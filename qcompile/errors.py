"""Every error qcompile raises, and the exit code each one gives on the command line.

A message names the place, the value found, what is allowed there and what to do next. `QcompileError` is the one class
to catch; the subclasses say which part of the way from recipe to pipeline refused.
"""

import difflib
from collections.abc import Iterable


class QcompileError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 2


class RecipeError(QcompileError):
    """The recipe's text is wrong: syntax, an unknown key, a wrong type, steps out of order."""


class PlanError(QcompileError):
    """The recipe is well formed but does not fit the model: a selector matches nothing, a component is missing."""


class StepError(QcompileError):
    """A step did something else than the plan said; nothing was written."""


class ModelError(QcompileError):
    """The model could not be found or is not in diffusers format."""


class ArtifactError(QcompileError):
    """The artifact folder can't be written or is not what its manifest says.

    Attributes:
        fault: short name of what is wrong, one of `qcompile.artifact.manifest.FAULTS`.
    """

    def __init__(self, fault: str, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class CallError(QcompileError):
    """A compiled component was called in a way no package was built for."""


class MachineError(QcompileError):
    """This machine can't do it: no compiler, no such device, no space left, a scheme its processor lacks."""

    exit_code = 3


class EnvironmentMismatch(MachineError):
    """Packages were built for another machine or other versions than the ones here.

    Attributes:
        fields: names of the environment fields that differ, as in the manifest's `environment` record.
    """

    def __init__(self, fields: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.fields = fields


class VerifyError(QcompileError):
    """A check on the result did not hold; `apply` puts nothing in place then."""

    exit_code = 1


def nearest(value: str, choices: Iterable[str]) -> str:
    """Return a hint such as `did you mean 'scheme'? Allowed here: component, layers, scheme`, for error messages."""
    known = sorted(choices)
    close = difflib.get_close_matches(value, known, n=1, cutoff=0.6)
    allowed = f"llowed here: {', '.join(known) if known else 'nothing'}"
    return f"did you mean {close[0]!r}? A{allowed}" if close else f"a{allowed}"
