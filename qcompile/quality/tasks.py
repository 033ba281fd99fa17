"""What is painted to compare two pipelines, and how it is scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qcompile.errors import PlanError
from qcompile.images import Painted, paint_all
from qcompile.source import BUILTIN
from qcompile.subject import SEED, Subject

NUM_SCORED = 100
"""Images that a bound on the task score is checked with: one point is one image."""


@dataclass(frozen=True)
class Task:
    """One image to paint."""

    prompt: Any
    """As the pipeline's call takes it; None leaves the recipe's own."""
    seed: int
    """Of the noise."""


def has_score(model_id: str | None) -> bool:
    """Whether images of this model can be scored against their prompts."""
    return model_id == BUILTIN + "flux-mini"


def tasks_of(model_id: str | None, call: dict[str, Any], count: int) -> tuple[Task, ...]:
    """`count` images, always the same ones.

    The first is the recipe's own prompt with the seed that `apply` uses. The others are captions that training never
    saw for the embedded model, and the recipe's prompt with other seeds for all other models.
    """
    own = Task(call.get("prompt"), SEED)
    if not has_score(model_id):
        return tuple(replace(own, seed=SEED + index) for index in range(count))
    from qcompile.builtin.captions import held_out_captions

    captions = held_out_captions(max(count - 1, 0))
    return (own, *(Task(caption.text, SEED + index) for index, caption in enumerate(captions, start=1)))


def refuse_too_many(model_id: str | None, count: int) -> None:
    """Refuse more images than there are prompts for, before a model is loaded.

    Raises:
        PlanError: how many there are.
    """
    if not has_score(model_id):
        return
    from qcompile.builtin.captions import held_out_captions

    try:
        held_out_captions(max(count - 1, 0))
    except ValueError as error:
        raise PlanError(f"--prompts {count}: {error}. Ask for fewer.") from error


def paint_task(subject: Subject, label: str, task: Task) -> Painted | None:
    """What the call of one task paints; None where nothing paints pictures."""
    prompt = {} if task.prompt is None else {"prompt": task.prompt}
    return paint_all(replace(subject, call=subject.call | prompt), label, task.seed)


def score_percent(images: Sequence[np.ndarray], tasks: Sequence[Task]) -> float | None:
    """Images that show all that their caption says, in percent of those whose prompt is a caption.

    Args:
        images: uint8 [height, width, 3] of the embedded model, one a task.
        tasks: what they were painted for.

    Returns:
        None where no prompt is a caption.
    """
    from qcompile.builtin.captions import parse_caption
    from qcompile.builtin.score import score_image

    right = []
    for image, task in zip(images, tasks, strict=True):
        try:
            caption = parse_caption(str(task.prompt))
        except ValueError:
            continue
        right.append(score_image(image, caption).all_right)
    return 100 * sum(right) / len(right) if right else None
