"""Which prompts and seeds are painted."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gallery.cases import FAMILIES

from qcompile.noise import quiet_libraries
from qcompile.pipeline import load_pipeline
from qcompile.quality.tasks import PROMPTS, Task, tasks_of, text_of, with_fitting_prompts
from qcompile.recipe import Recipe
from qcompile.subject import Subject, subject_of_pipeline


def test_every_task_has_its_own_prompt_and_seed() -> None:
    tasks = tasks_of("black-forest-labs/FLUX.1-dev", {"prompt": "a cat"}, len(PROMPTS) + 3)
    assert [task.seed for task in tasks] == list(range(len(PROMPTS) + 3))
    assert [task.prompt for task in tasks] == ["a cat", *PROMPTS, *PROMPTS[:2]]
    assert len({"a cat", *PROMPTS}) == 1 + len(PROMPTS)
    assert tasks_of(None, {"prompt": "a cat"}, 1) == (Task("a cat", 0),)


@pytest.mark.parametrize("call", [{}, {"class_labels": [3]}, {"prompt": ["a cat", "a dog"]}])
def test_where_the_prompt_is_no_text_seeds_alone_differ(call: dict) -> None:
    assert tasks_of(None, call, 3) == tuple(Task(call.get("prompt"), seed) for seed in range(3))


def test_the_first_images_text() -> None:
    assert [text_of(prompt) for prompt in ("a", ["b", "c"], [], None)] == ["a", "b", None, None]


@pytest.mark.parametrize(("family", "fitting"), [("flux_schnell", True), ("qwen_image", False)])
def test_prompts_that_would_change_the_denoisers_inputs_are_left_out(
    family: str, fitting: bool, make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    with quiet_libraries():
        FAMILIES[family].write_twin(tmp_path / family)
        pipeline = load_pipeline(tmp_path / family, torch.bfloat16, torch.device("cpu"))
    call = {"prompt": "a cat", "num_inference_steps": 1, "max_sequence_length": 64}
    recipe = make_recipe(call=call, shapes=[{"height": 64, "width": 64}])
    subject: Subject = subject_of_pipeline(recipe, pipeline)
    found = with_fitting_prompts(subject, tasks_of(None, call, 3))
    assert [task.seed for task in found] == [0, 1, 2]
    assert [task.prompt for task in found] == ["a cat", *(PROMPTS[:2] if fitting else ("a cat", "a cat"))]
