"""The model that a recipe names, loaded with its weights."""

import torch

from qcompile.pipeline import load_pipeline, set_default_size
from qcompile.progress import Progress, stage
from qcompile.recipe import Recipe
from qcompile.source import find_folder
from qcompile.streaming import Streaming
from qcompile.subject import Subject, subject_of_pipeline


def load_subject(recipe: Recipe, device: torch.device, progress: Progress, streamed: bool = False) -> Subject:
    """A recipe's subject from the model that it names, loaded with its weights.

    Args:
        recipe: the recipe.
        device: where the models run.
        progress: told of it.
        streamed: where the device is a GPU, the weights of the denoiser's blocks stay in the computer's memory until
            `Subject.settle`.

    Raises:
        ModelError: the model can't be found or loaded.
        PlanError: as `subject_of_pipeline`.
        MachineError: memory of the blocks can't be locked.
    """
    source = recipe.header.model
    streamed = streamed and _is_gpu(device)
    with stage(progress, "load the model"):
        at_first = torch.device("cpu") if streamed else device
        folder = find_folder(source.id, source.revision, place=recipe.model_place)
        pipeline = load_pipeline(folder, getattr(torch, source.dtype), at_first)
        subject = subject_of_pipeline(recipe, pipeline)
        if streamed:
            for name, component in subject.components.items():
                if name != subject.denoiser:
                    component.to(device)
            subject.streaming = Streaming(subject.components[subject.denoiser], device)
    first = next(iter(subject.shapes.values()))
    set_default_size(pipeline, first.height, first.width)
    return subject


def _is_gpu(device: torch.device) -> bool:
    return device.type == "cuda"
