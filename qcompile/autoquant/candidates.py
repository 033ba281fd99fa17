"""The schemes that take part, and one layer in one of them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from qcompile.change import Change
from qcompile.errors import MachineError, StepError
from qcompile.modules import bare_copy
from qcompile.progress import Silent
from qcompile.schemes import SCHEMES, Scheme
from qcompile.steps import Workshop
from qcompile.steps.autoquant import NONE, Autoquant
from qcompile.steps.quantize import Quantize

FAILURES = (RuntimeError, ValueError, TypeError, AssertionError, ImportError, StepError)
"""What backends and compilers raise where a layer can't be had in a scheme."""


class Alone(nn.Module):
    """One linear as a model of its own."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        # Weights are shared, hooks are not.
        self.layer = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.layer.weight = nn.Parameter(layer.weight.detach(), requires_grad=False)
        if layer.bias is not None:
            self.layer.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (the name that nn.Linear has)
        """Give [..., out] for `input` [..., in]."""
        return self.layer(input)  # type: ignore[no-any-return]


def in_scheme(scheme: str, layer: nn.Linear, activation: torch.Tensor) -> nn.Module:
    """A copy of `layer` in `scheme`, made as the quantize step makes it; `none` is the layer as it is.

    Args:
        activation: [..., in], for schemes that look at inputs.

    Raises:
        RuntimeError, ValueError, TypeError, AssertionError, ImportError, StepError: the backend can't.
    """
    alone = Alone(layer)
    if scheme != NONE:
        change = Change(step=0, kind=Quantize.kind, component="alone", module="layer", action=scheme)
        workshop = Workshop({"layer": {"input": activation}}, Path(), Silent(), max_compiled_error=1.0)
        Quantize(component="alone", scheme=scheme).apply(alone, (change,), workshop)
    return alone.eval()


def in_schemes(schemes: Mapping[str, str], block: nn.Module) -> nn.Module:
    """A copy of `block` with its layers in `schemes` (dotted name in the block -> scheme, or `none`).

    Raises:
        RuntimeError, ValueError, TypeError, AssertionError, ImportError, StepError: the backend can't.
    """
    alone = nn.Module()
    alone.block = bare_copy(block)
    for scheme in dict.fromkeys(schemes.values()):
        if scheme != NONE:
            changes = tuple(
                Change(step=0, kind=Quantize.kind, component="alone", module=f"block.{name}", action=scheme)
                for name, chosen in schemes.items()
                if chosen == scheme
            )
            workshop = Workshop({}, Path(), Silent(), max_compiled_error=1.0)
            Quantize(component="alone", scheme=scheme).apply(alone, changes, workshop)
    return alone.block.eval()


def runnable(options: Autoquant, device: torch.device, mode: str, place: str) -> tuple[list[str], dict[str, str]]:
    """The candidates this machine can run, in order, and the others with the reason.

    Args:
        options: of the autoquant step.
        device: where the artifact will run.
        mode: how the recipe compiles the layers: `aot` or `jit`.
        place: of the step, for messages.

    Raises:
        MachineError: it can run none of them.
    """
    names = options.candidates or [name for name, row in SCHEMES.items() if name != NONE and _by_default(row)]
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    reasons = {name: _why_not(SCHEMES[name], device.type, capability, mode) for name in names}
    refused = {name: reason for name, reason in reasons.items() if reason}
    if len(refused) == len(names):
        raise MachineError(
            f"{place}.autoquant.candidates: this machine can run none of them: {'; '.join(refused.values())}. Name "
            "others, or use another machine."
        )
    # A user who names no candidates has no use for the reasons of schemes for other machines.
    return [name for name in names if name not in refused], refused if options.candidates else {}


def _by_default(scheme: Scheme) -> bool:
    """Whether a scheme is tried where the recipe names none: not where better ones do the same."""
    return scheme.tried and not scheme.legacy and not scheme.calibrated


def _why_not(scheme: Scheme, device_type: str, capability: tuple[int, int] | None, mode: str) -> str | None:
    """Why a layer in this scheme can't run here compiled and be saved."""
    calibrated = "autoquant does not calibrate" if scheme.calibrated else None
    limits = (scheme.why_not_aot if mode == "aot" else scheme.why_not_jit, scheme.why_not_saved, calibrated)
    obstacle = scheme.why_not_machine(device_type, capability)
    return obstacle or next((f"{scheme.name}: {limit}" for limit in limits if limit), None)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
