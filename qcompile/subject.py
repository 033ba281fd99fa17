"""What a recipe is applied to: a pipeline or a bare model, on meta or for real, and what its layers see."""

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from qcompile.aot.callspec import Arguments, Signature
from qcompile.aot.capture import capture_first_call, copy_tensors, count_rows
from qcompile.document import exponent_hint
from qcompile.errors import PlanError, nearest
from qcompile.known_values import KnownValues
from qcompile.modules import linears
from qcompile.pipeline import check_call, check_size, denoiser_of, meta_twin, models_of
from qcompile.recipe import DENOISER, Recipe, Shape
from qcompile.streaming import Streaming

SEED = 0
"""Seed of the noise in captured calls and verification images."""


@dataclass
class Subject:
    """Models by component name, and how they are called.

    `pipeline` is None for a bare model, whose calls are `example_inputs`.
    """

    components: dict[str, nn.Module]
    denoiser: str
    pipeline: Any
    call: dict[str, Any]
    shapes: dict[str, Shape]
    example_inputs: Sequence[Mapping[str, Any]] = ()
    rows_unknown: str | None = None
    """Why the denoiser can't say which rows its layers see: it needs values to run, and meta tensors have none."""
    streaming: Streaming | None = None
    """What brings the denoiser's blocks to the GPU while they run; None once all weights are where they run."""
    spares_memory_of: torch.device | None = None
    """The GPU that the denoiser's weights leave while an image is decoded; None lets them stay."""
    _calls: dict[str, Arguments] = field(default_factory=dict)
    _rows: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    _values: KnownValues = field(default_factory=KnownValues)
    """Values of small tensors, where the models are on meta; the denoiser's captured inputs are among them."""

    @property
    def dtype(self) -> str:
        """Dtype of most of the denoiser's linears, `bfloat16`, whatever they are stored in."""
        layers = linears(self.components[self.denoiser]).values()
        tensors = [layer.weight for layer in layers] or list(self.components[self.denoiser].parameters())
        counted = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)
        return counted.most_common(1)[0][0]

    @property
    def on_meta(self) -> bool:
        """Whether the models have no values."""
        return next(self.components[self.denoiser].parameters()).device.type == "meta"

    def component(self, name: str, place: str) -> nn.Module:
        """The component a step names.

        Raises:
            PlanError: the model has none of that name.
        """
        if name not in self.components:
            raise PlanError(
                f"{place}.component: the model has no component {name!r}; {nearest(name, self.components)}."
            )
        return self.components[name]

    def arguments(self, label: str, generator: bool = True) -> dict[str, Any]:
        """Keyword arguments of the pipeline's call for one declared shape."""
        shape, call = self.shapes[label], dict(self.call)
        for name in ("prompt", "negative_prompt"):
            if shape.batch > 1 and isinstance(call.get(name), str):
                call[name] = [call[name]] * shape.batch
        size = {"height": shape.height, "width": shape.width, "num_frames": shape.frames}
        call.update({name: value for name, value in size.items() if value is not None})
        if generator:
            call["generator"] = torch.Generator("cpu").manual_seed(SEED)
        return call

    def calls(self) -> dict[str, Arguments]:
        """Arguments of the denoiser's first call by shape label, from the pipeline itself; captured once."""
        if not self._calls:
            self._capture()
        return self._calls

    def part_calls(self, component: str, part: str) -> dict[str, Arguments]:
        """Arguments of the first call of a component's part by shape label, from short calls of the real pipeline.

        Args:
            component: the component, such as `vae`.
            part: dotted name of a module inside it, such as `decoder`.

        Raises:
            PlanError: there is no pipeline, or it never calls the part.
        """
        if self.pipeline is None:
            raise PlanError(f"{component}.{part}: a bare model has no pipeline whose calls could be captured.")
        module = self.component(component, component).get_submodule(part)
        found = {}
        with quiet(self.pipeline):
            for label in self.shapes:
                call = self.arguments(label)
                if "num_inference_steps" in inspect.signature(type(self.pipeline).__call__).parameters:
                    # What comes after the last step is the same however many there are.
                    call["num_inference_steps"] = 2
                run = partial(self.pipeline, **call)
                found[label] = copy_tensors(capture_first_call(module, run, f"{component}.{part}"))
        return found

    def rows(self, component: str) -> dict[str, tuple[int, ...]]:
        """Rows that each linear of a component sees in one call, one number a shape.

        Linears that are not called before the denoiser's first step have no entry, and where `rows_unknown` is set,
        the denoiser's have none either: `apply` then decides as `plan` did.
        """
        calls = self.calls()
        if component != self.denoiser:
            return self._rows.get(component, {})
        if self.rows_unknown is not None:
            return {}
        model = self.components[component]
        try:
            with self._values_followed():
                counts = [count_rows(dict(linears(model)), partial(model, **call)) for call in calls.values()]
        except (RuntimeError, ValueError, PlanError) as error:
            if not self.on_meta:
                raise
            # Masks that are counted, experts that are chosen: such code asks for values in the middle of a forward.
            self.rows_unknown = str(error.__cause__ or error).strip().partition("\n")[0]
            return {}
        return {
            name: tuple(count[name] for count in counts) for name in counts[0] if all(name in count for count in counts)
        }

    def settle(self, module: nn.Module | None = None) -> None:
        """Move the weights of a part of the denoiser, by default all, to where they run, unless they are there."""
        if self.streaming is None:
            return
        if module is not None:
            self.streaming.settle(module)
            return
        self.streaming.close()
        self.streaming = None

    def twin(self) -> "Subject":
        """The same on meta, built from the configurations of the models."""
        models = {name: meta_twin(model) for name, model in self.components.items()}
        inputs = [_to_meta(dict(example)) for example in self.example_inputs]
        pipeline = None
        if self.pipeline is not None:
            pipeline = type(self.pipeline)(**{**self.pipeline.components, **models}, **_settings(self.pipeline))
        return Subject(models, self.denoiser, pipeline, self.call, self.shapes, inputs)

    def _values_followed(self) -> AbstractContextManager[Any]:
        return self._values if self.on_meta else nullcontext()

    def _capture(self) -> None:
        model = self.components[self.denoiser]
        if self.pipeline is None:
            signature = Signature(model)
            self._calls = {
                label: signature.name((), example)
                for label, example in zip(self.shapes, self.example_inputs, strict=True)
            }
            return
        others = {name: part for name, part in self.components.items() if name != self.denoiser}
        counts: list[dict[str, int]] = []
        with quiet(self.pipeline), _scheduler_on_cpu(self.pipeline, self.on_meta), self._values_followed():
            for label in self.shapes:
                found: list[Arguments] = []

                def run(label: str = label, found: list[Arguments] = found) -> None:
                    call = self.arguments(label, generator=not self.on_meta)
                    try:
                        found.append(capture_first_call(model, lambda: self.pipeline(**call), self.denoiser))
                    except (TypeError, ValueError, ArithmeticError) as error:
                        given = ", ".join(f"{name}: {value!r}" for name, value in self.call.items())
                        hints = "".join(f" {hint}." for hint in map(exponent_hint, self.call.values()) if hint)
                        raise PlanError(
                            f"call: {type(self.pipeline).__name__} can't be called with it ({given}): "
                            f"{str(error).strip().splitlines()[0]}. Mend the recipe's call.{hints}"
                        ) from error

                layers = {
                    f"{name}:{layer}": module
                    for name, part in others.items()
                    for layer, module in linears(part).items()
                }
                counts.append(count_rows(dict(layers), run))
                self._calls[label] = _to_meta(found[0]) if self.on_meta else found[0]
        for key in counts[0]:
            component, _, layer = key.partition(":")
            self._rows.setdefault(component, {})[layer] = tuple(count[key] for count in counts if key in count)


def subject_of_pipeline(recipe: Recipe, pipeline: Any) -> Subject:
    """A recipe's subject from a pipeline, real or on meta.

    Raises:
        PlanError: the recipe's call does not fit the pipeline, or it has no denoiser.
    """
    call = dict(recipe.header.call)
    check_call(pipeline, call)
    for name in ("height", "width", "num_frames", "generator"):
        if name in call:
            raise PlanError(f"call.{name}: sizes are declared under shapes, and seeds are qcompile's own; take it out.")
    for index, shape in enumerate(recipe.header.shapes):
        check_size(pipeline, shape.height, shape.width, f"shapes.{index}.")
    components = models_of(pipeline)
    shapes = recipe.header.shapes or (Shape.model_validate({}),)
    return Subject(components, denoiser_of(components), pipeline, call, {shape.label: shape for shape in shapes})


def subject_of_model(recipe: Recipe, model: nn.Module, example_inputs: Sequence[Mapping[str, Any]]) -> Subject:
    """A recipe's subject from a bare denoiser and the keyword arguments it is called with, one mapping a shape.

    Raises:
        PlanError: no example inputs, or the recipe's steps name more than one component.
    """
    names = sorted({step.owner for step in recipe.steps if step.owner})
    if len(names) != 1:
        raise PlanError(
            f"a bare model is one component, but the recipe's steps name {', '.join(names) or 'no component'}."
        )
    if names == [DENOISER]:
        names = ["unet" if "UNet" in type(model).__name__ else "transformer"]
    if not example_inputs:
        raise PlanError(
            "example_inputs: give one or more mappings of keyword arguments; shapes and rows come from them."
        )
    shapes = {f"inputs{index}": Shape.model_validate({}) for index in range(len(example_inputs))}
    return Subject({names[0]: model}, names[0], None, {}, shapes, example_inputs)


def _to_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, dict):
        return {name: _to_meta(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_meta(inner) for inner in value)
    return value


def _settings(pipeline: Any) -> dict[str, Any]:
    """Constructor arguments of a pipeline that are no components."""
    return {
        name: value
        for name, value in dict(pipeline.config).items()
        if not name.startswith("_") and name not in pipeline.components
    }


@contextmanager
def quiet(pipeline: Any) -> Iterator[None]:
    """Keep a pipeline from drawing its own progress bar."""
    before = dict(getattr(pipeline, "_progress_bar_config", {}))
    pipeline.set_progress_bar_config(**{**before, "disable": True})
    try:
        yield
    finally:
        pipeline.set_progress_bar_config(**before)


@contextmanager
def _scheduler_on_cpu(pipeline: Any, needed: bool) -> Iterator[None]:
    """Keep a meta pipeline's scheduler on the CPU: schedulers read values of their own tensors."""
    scheduler = getattr(pipeline, "scheduler", None)
    if scheduler is None or not needed:
        yield
        return
    original, own = scheduler.set_timesteps, vars(scheduler).get("set_timesteps")

    def set_timesteps(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **(kwargs | {"device": "cpu"} if "device" in kwargs else kwargs))

    # diffusers looks at the signature to see whether timesteps or sigmas are accepted.
    set_timesteps.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    scheduler.set_timesteps = set_timesteps
    try:
        yield
    finally:
        if own is None:
            del scheduler.set_timesteps
        else:
            scheduler.set_timesteps = own
