"""What is painted to compare two pipelines, and how it is scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from qcompile.aot.callspec import spec_of
from qcompile.aot.capture import capture_first_call
from qcompile.errors import PlanError
from qcompile.images import Painted, paint_all
from qcompile.source import BUILTIN
from qcompile.subject import SEED, Subject, quiet

NUM_SCORED = 100
"""Images that a bound on the task score is checked with: one point is one image."""

PROMPTS = (
    "an old fisherman mending a net, his face lit by a low sun",
    "three friends laughing over noodles at a street stall at night",
    "a wooden sign above a shop door that says OPEN UNTIL TEN",
    "a red fox looking over its shoulder in deep snow",
    "close view of a knitted woollen scarf, every thread to be seen",
    "a crowd crossing a wide street under umbrellas, seen from above",
    "a harbour at night, lamps mirrored in black water",
    "a bowl of cherries on a white cloth, soft light from a window",
    "a child's drawing of a blue house and a yellow sun, wax crayon on paper",
    "a steam engine crossing a stone bridge in autumn fog",
    "hands of a potter shaping wet clay on a wheel",
    "the inside of a library with tall shelves and a spiral staircase",
    "a green parrot and a glass of water on a windowsill",
    "sand dunes at noon, long ripples and a cloudless sky",
    "a city of glass towers floating above the sea, painted in watercolours",
)
"""What models without captions of their own paint after the recipe's prompt: people, text, texture, night, crowds."""


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
    saw for the embedded model, and PROMPTS for all other models: each with a seed of its own, and from the beginning
    again where there are too few. A recipe whose prompt is no text has the same call with other seeds.
    """
    own = Task(call.get("prompt"), SEED)
    if not has_score(model_id):
        others = (PROMPTS[(index - 1) % len(PROMPTS)] for index in range(1, count))
        if not isinstance(own.prompt, str):
            others = (own.prompt for _ in range(1, count))
        return (own, *(Task(prompt, SEED + index) for index, prompt in enumerate(others, start=1)))[:count]
    from qcompile.builtin.captions import held_out_captions

    captions = held_out_captions(max(count - 1, 0))
    return (own, *(Task(caption.text, SEED + index) for index, caption in enumerate(captions, start=1)))


def with_fitting_prompts(subject: Subject, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The recipe's own prompt in place of those whose text gives the denoiser inputs of another size.

    Some models' text is as long as the prompt, and packages take only what they were compiled for.
    """
    own = tasks[0]
    if all(task.prompt == own.prompt for task in tasks):
        return tuple(tasks)
    expected = _first_call(subject, own)
    fits = [_first_call(subject, task) == expected for task in tasks]
    return tuple(task if fit else replace(own, seed=task.seed) for task, fit in zip(tasks, fits, strict=True))


def _first_call(subject: Subject, task: Task) -> tuple[Any, ...]:
    prompt = {} if task.prompt is None else {"prompt": task.prompt}
    call = replace(subject, call=subject.call | prompt).arguments(next(iter(subject.shapes)))
    with quiet(subject.pipeline):
        denoiser = subject.components[subject.denoiser]
        return spec_of(capture_first_call(denoiser, partial(subject.pipeline, **call), subject.denoiser)).key()


def text_of(prompt: Any) -> str | None:
    """The text that the first image of a call is painted for; None where there is none."""
    first = prompt[0] if isinstance(prompt, list | tuple) and prompt else prompt
    return first if isinstance(first, str) else None


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
