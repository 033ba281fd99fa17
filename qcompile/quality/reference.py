"""What the original shows, and how far another pipeline is from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from qcompile.aot.callspec import Arguments
from qcompile.aot.compare import relative_error
from qcompile.errors import VerifyError
from qcompile.images import Painted, psnr_db, to_pixels
from qcompile.quality.bounds import Measured
from qcompile.quality.faults import first_constant, first_not_finite, image_fault, is_finite
from qcompile.quality.similarity import WINDOW, ssim
from qcompile.quality.tasks import Task, paint_task, score_percent
from qcompile.quality.trajectory import Trajectory, copied, moved, recorded
from qcompile.subject import Subject


@dataclass(frozen=True)
class Reference:
    """The original's outputs and images. It holds nothing on a GPU."""

    calls: dict[str, Arguments]
    """Arguments of the denoiser's first call, by shape label."""
    outputs: dict[str, Any]
    """What the original's denoiser gave back for them."""
    trajectory: Trajectory
    """Of the first task, for the first shape; empty for a bare model."""
    tasks: tuple[Task, ...]
    images: tuple[np.ndarray, ...]
    """uint8 [height, width, 3], the first of each task's call; empty where nothing paints images."""
    plain: tuple[tuple[bool, ...], ...]
    """Whether each image or frame of a task's call is of one colour. A video's first task is all that is painted."""
    score_percent: float | None


def take_reference(subject: Subject, tasks: Sequence[Task], scored: bool) -> Reference:
    """Run the original, eagerly: every shape's first call, and every task's image for the first shape.

    Args:
        subject: the original.
        tasks: what to paint; the first one's steps are recorded. A bare model paints nothing.
        scored: whether images of the model can be scored.

    Raises:
        VerifyError: the original itself gives values that are not finite.
    """
    cpu, whose = torch.device("cpu"), "the original's"
    denoiser, calls = subject.components[subject.denoiser], subject.calls()
    computed = outputs(denoiser, calls)
    refuse_not_finite(subject, calls, computed, whose)
    trajectory = Trajectory()
    images: tuple[np.ndarray, ...] = ()
    plain: tuple[tuple[bool, ...], ...] = ()
    if subject.pipeline is not None:
        with recorded(denoiser) as trajectory:
            painted = paint_task(subject, first_label(subject), tasks[0])
        for index, output in enumerate(trajectory.outputs):
            if not is_finite(output):
                _refuse_call(subject, trajectory.calls[index], _step_output(index, len(trajectory)), whose)
        if painted is not None:
            images, plain = _looked_at(subject, painted, tasks[0], None, whose)
        for task in tasks[1:] if images else ():
            more = _paint(subject, task, None, whose)
            images, plain = images + more[0], plain + more[1]
    return Reference(
        moved(calls, cpu),
        moved(computed, cpu),
        trajectory,
        tuple(tasks),
        images,
        plain,
        score_percent(images, tasks) if scored and images else None,
    )


def measure(subject: Subject, reference: Reference, whose: str) -> tuple[Measured, tuple[np.ndarray, ...]]:
    """Run another pipeline on what the original was run on.

    Args:
        subject: the pipeline, called as the original was.
        reference: what the original showed.
        whose: the pipeline in the possessive, for messages: `the artifact's`.

    Returns:
        The figures, and the images, uint8 [height, width, 3], one a task. `compiled_errors` are left empty.

    Raises:
        VerifyError: it gives values that are not finite, or an image of one colour where the original's is not.
    """
    denoiser = subject.components[subject.denoiser]
    measured = Measured(quantized_errors=errors_of(denoiser, reference.calls, reference.outputs))
    for label, error in measured.quantized_errors.items():
        if error != error:
            _refuse_call(subject, reference.calls[label], _first_output(label), whose)
    trajectory = reference.trajectory
    measured.step_errors = trajectory.errors(denoiser)
    for index, error in enumerate(measured.step_errors):
        if error != error:
            _refuse_call(subject, trajectory.calls[index], _step_output(index, len(trajectory)), whose)
    images: tuple[np.ndarray, ...] = ()
    for task, plain in zip(reference.tasks, reference.plain, strict=False):
        images += _paint(subject, task, plain, whose)[0]
    if images:
        pairs = list(zip(images, reference.images, strict=True))
        measured.psnr_db = tuple(psnr_db(mine, theirs) for mine, theirs in pairs)
        if min(images[0].shape[:2]) >= WINDOW:
            measured.ssim = tuple(ssim(mine, theirs) for mine, theirs in pairs)
    if reference.score_percent is not None:
        measured.score_percent = score_percent(images, reference.tasks)
        assert measured.score_percent is not None
        measured.score_loss_points = reference.score_percent - measured.score_percent
    return measured, images


def outputs(denoiser: nn.Module, calls: Mapping[str, Arguments]) -> dict[str, Any]:
    """What the denoiser gives back for each shape's captured call."""
    device = next(denoiser.parameters()).device
    with torch.no_grad():
        return {label: denoiser(**copied(call, device)) for label, call in calls.items()}


def errors_of(denoiser: nn.Module, calls: Mapping[str, Arguments], reference: Mapping[str, Any]) -> dict[str, float]:
    """Relative error of the denoiser's output for each shape's captured call."""
    device = next(denoiser.parameters()).device
    return {
        label: relative_error(output, moved(reference[label], device))
        for label, output in outputs(denoiser, calls).items()
    }


def refuse_not_finite(
    subject: Subject, calls: Mapping[str, Arguments], computed: Mapping[str, Any], whose: str
) -> None:
    """Refuse outputs of the denoiser that hold NaN or infinity.

    Args:
        subject: what the denoiser belongs to.
        calls: what it was called with, by shape label.
        computed: what it gave back.
        whose: the denoiser in the possessive, for messages.

    Raises:
        VerifyError: naming the first layer that is to blame.
    """
    for label, output in computed.items():
        if not is_finite(output):
            _refuse_call(subject, calls[label], _first_output(label), whose)


def first_label(subject: Subject) -> str:
    """The declared shape that is painted: the first."""
    return next(iter(subject.shapes))


def _first_output(label: str) -> str:
    return f"first output for {label}"


def _step_output(index: int, count: int) -> str:
    return f"output at call {index + 1} of {count} along the original's trajectory"


def _refuse_call(subject: Subject, call: Arguments, place: str, whose: str) -> None:
    name = subject.denoiser
    denoiser = subject.components[name]
    on_device = copied(call, next(denoiser.parameters()).device)
    offender = first_not_finite({name: denoiser}, lambda: denoiser(**on_device))
    blame = f"{offender}" if offender else "no module's is when it is run eagerly, so compiled code is to blame"
    raise VerifyError(f"{whose} {name}: its {place} holds NaN or infinity; {blame}. {_ADVICE}")


Seen = tuple[tuple[np.ndarray, ...], tuple[tuple[bool, ...], ...]]
"""The first image of a call as pixels (none of a video), and which of its images or frames are of one colour."""


def _paint(subject: Subject, task: Task, originals: Sequence[bool] | None, whose: str) -> Seen:
    painted = paint_task(subject, first_label(subject), task)
    assert painted is not None
    return _looked_at(subject, painted, task, originals, whose)


def _looked_at(subject: Subject, painted: Painted, task: Task, originals: Sequence[bool] | None, whose: str) -> Seen:
    """All images or frames of a task's call, looked at.

    Args:
        subject: what painted them.
        painted: what it painted.
        task: what it was called with.
        originals: which of the original's are of one colour; None where these are the original's.
        whose: the pipeline in the possessive, for messages.

    Raises:
        VerifyError: one is not finite, or of one colour where the original's is not.
    """

    def again() -> None:
        paint_task(subject, first_label(subject), task)

    faults = [image_fault(picture) for picture in painted.pictures]
    # The original may well be of one colour: its weights can be random, and its prompt `a black square`.
    lost = [i for i, fault in enumerate(faults) if fault is not None and originals is not None and not originals[i]]
    if lost or not painted.is_finite:
        offender = first_not_finite(subject.components, again)
        if offender or not painted.is_finite:
            # Where infinity was clamped, no picture shows it.
            bad = next((i for i, picture in enumerate(painted.pictures) if not np.isfinite(picture).all()), None)
            raise VerifyError(
                f"{whose} {_named(painted, bad, task)} holds values that are not finite; "
                f"{offender or _ALL_FINITE}. {_ADVICE}"
            )
        offender = first_constant(subject.components, again)
        raise VerifyError(
            f"{whose} {_named(painted, lost[0], task)} {faults[lost[0]]}, and the original's is not; all values on "
            f"the way are finite; {offender or _NONE_CONSTANT}. {_ADVICE_FINITE}"
        )
    plain = tuple(fault is not None for fault in faults)
    return () if painted.is_video else (to_pixels(painted.pictures[0]),), (plain,)


def _named(painted: Painted, index: int | None, task: Task) -> str:
    """One image or frame of a task's call, by its index where that is known."""
    kind, count = "frame" if painted.is_video else "image", len(painted.pictures)
    number = "" if index is None or count == 1 else f" {index + 1} of {count}"
    return f"{kind}{number} " + (f"for {task.prompt!r}, seed {task.seed}," if task.prompt else f"for seed {task.seed}")


_ALL_FINITE = "every module's output is finite"
_NONE_CONSTANT = "no module's output is one value throughout"
_ADVICE = (
    "Look at that layer's weights; a dtype of wider range helps (bfloat16 or float32 in place of float16), or leaving "
    "the layer out where quantization made it so (layers.exclude)."
)
_ADVICE_FINITE = (
    "Leave layers out, first those of the components that the recipe quantizes (layers.exclude), or choose a finer "
    "scheme, until the picture is back."
)
