"""The pipelines that are compared: original, control, and the artifact with and without its compiled code."""

import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from qcompile.aot.options import no_silent_eager
from qcompile.artifact.manifest import Manifest
from qcompile.artifact.read import Artifact
from qcompile.errors import MachineError
from qcompile.loader import load
from qcompile.lora import read_lora
from qcompile.pipeline import load_pipeline, set_default_size
from qcompile.progress import Silent
from qcompile.recipe import Recipe
from qcompile.steps import Phase, Workshop
from qcompile.steps.compile import Compile
from qcompile.steps.fuse_lora import FuseLora
from qcompile.subject import Subject, subject_of_pipeline


def original_subject(folder: Path, recipe: Recipe, manifest: Manifest, device: torch.device) -> Subject:
    """The original with the recipe's adapters in it, eager: with them it is the model that was asked for.

    Raises:
        ModelError: the model or an adapter can't be loaded.
    """
    pipeline = load_pipeline(folder, getattr(torch, manifest.model.dtype), device)
    first = next(iter(manifest.shapes.values()))
    set_default_size(pipeline, first.height, first.width)
    subject = subject_of_pipeline(recipe, pipeline)
    carry_out(recipe, manifest, subject, {Phase.LORA})
    return subject


def artifact_subject(artifact: Artifact, recipe: Recipe, device: torch.device, compiled: bool) -> Subject:
    """The artifact as it is loaded, or without compiled code."""
    return subject_of_pipeline(recipe, load(artifact, device=str(device), compiled=compiled))


def carry_out(recipe: Recipe, manifest: Manifest, subject: Subject, phases: Collection[Phase]) -> None:
    """Run the recipe's steps of these phases, as the manifest records them, on a subject."""
    for index, step in enumerate(recipe.steps):
        if step.phase in phases:
            module = subject.pipeline if step.owner is None else subject.components[step.owner]
            if isinstance(step, FuseLora):
                # The artifact holds the fused weights only; the file may be gone since.
                place = f"steps.{index}.{step.kind}"
                read_lora(subject.pipeline, step.path, step.weight_name, step.revision, place)
            changes = tuple(change for change in manifest.changes if change.step == index)
            # Steps before compilation write no files, so that there is no folder to give them.
            workshop = Workshop({}, Path(), Silent(), 0.0, pipeline=subject.pipeline)
            step.restructure(module)
            step.apply(module, changes, workshop)


def compile_steps(recipe: Recipe) -> dict[int, Compile]:
    """The recipe's compile steps by index."""
    return {index: step for index, step in enumerate(recipe.steps) if isinstance(step, Compile)}


def make_control(recipe: Recipe, subject: Subject) -> None:
    """Compile the original in place as the recipe says, just in time: what compilation alone changes.

    Where the recipe leaves the denoiser eager, its blocks are compiled at default options, as `bench` does.
    """
    for index, step in compile_steps(recipe).items():
        # Unlike packages, what torch.compile makes is not saved, so that only the way there differs.
        jit = step.model_copy(update={"mode": "jit"})
        jit.prepare(subject.components[step.component], recipe.inductor_options(index))
    if all(step.component != subject.denoiser for step in compile_steps(recipe).values()):
        Compile(component=subject.denoiser, mode="jit").prepare(subject.components[subject.denoiser])


@contextmanager
def compiling() -> Iterator[None]:
    """Run the control arm, all of it compiled, and say in our words that torch's compiler failed.

    Raises:
        MachineError: it did.
    """
    try:
        # Blocks that ran eagerly would make the control better than what it is compared with.
        with no_silent_eager():
            yield
    except (torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise MachineError(
            f"the control arm could not be compiled here: {lines[0]}. `qcompile doctor` says what is missing; "
            "--no-control leaves this arm out."
        ) from error


def release() -> None:
    """Give back the memory of pipelines that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
