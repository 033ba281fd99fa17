"""Diffusers pipelines: built on meta from configurations alone, or loaded for real."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import diffusers
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn

from qcompile.deferred import deferred_imports
from qcompile.errors import ModelError, PlanError, nearest
from qcompile.source import component_classes, model_index

DENOISERS = ("transformer", "unet")
"""Component names under which pipelines hold the network that runs at every step."""
OUTPUT_OPTIONS = ("output_type", "return_dict")
"""Arguments of a pipeline's call that say in which form it gives back what it painted."""

UNFIT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
"""What libraries raise where they make something of files that do not fit: hardly any of them checks what it reads."""


class Made(AbstractContextManager[None]):
    """Turns what libraries raise in the body into a `ModelError`.

    Args:
        place: the folder that something is made of.
        refusal: what its error says: `no T5EncoderModel can be built from it`.
    """

    def __init__(self, place: Path, refusal: str) -> None:
        self._place = place
        self._refusal = refusal

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # tokenizers raises Exception itself, whatever is wrong; subclasses that are not listed are bugs of ours.
        if error is not None and (kind is Exception or isinstance(error, UNFIT)):
            place = self._place / (_component_in(traceback) or "")
            raise ModelError(f"{place}: {self._refusal}: {_reason(error)}") from error


def load_pipeline(folder: Path, dtype: torch.dtype, device: torch.device) -> diffusers.DiffusionPipeline:
    """Load a pipeline folder with its weights. Only safetensors are read.

    Raises:
        ModelError: diffusers can't load it.
    """
    # A scheduler imports all those that it could be exchanged for.
    with Made(folder, "diffusers can't load it"), deferred_imports():
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, use_safetensors=True
        )
    for component in models_of(pipeline).values():
        component.requires_grad_(False).eval()
    return pipeline.to(device)  # type: ignore[no-any-return]


def meta_pipeline(folder: Path, dtype: torch.dtype) -> diffusers.DiffusionPipeline:
    """Build a pipeline folder's pipeline with every tensor on meta, from its configurations; no weights are read.

    Raises:
        ModelError: a component's class or configuration can't be found.
    """
    parts: dict[str, Any] = dict.fromkeys(_optional(folder))
    for name, (library, class_name) in component_classes(folder).items():
        kind = find_class(library, class_name)
        if issubclass(kind, nn.Module):
            parts[name] = build_model(kind, folder / name, dtype, lambda: torch.device("meta")).to("meta")
        else:
            with Made(folder / name, f"no {class_name} can be made of it"):
                parts[name] = kind.from_pretrained(str(folder / name), local_files_only=True)
    kind = find_class("diffusers", model_index(folder)["_class_name"])
    settings = {
        name: value for name, value in model_index(folder).items() if not name.startswith("_") and name not in parts
    }
    return kind(**parts, **{name: value for name, value in settings.items() if not isinstance(value, list)})


def meta_twin(module: nn.Module) -> nn.Module:
    """A model of the same class and configuration with every tensor on meta.

    Raises:
        ModelError: it is no diffusers or transformers model, so that it can't be rebuilt from its configuration.
    """
    if isinstance(module, diffusers.ModelMixin):
        with torch.device("meta"):
            twin = type(module).from_config(dict(module.config))  # type: ignore[attr-defined]
    elif isinstance(module, transformers.PreTrainedModel):
        with torch.device("meta"):
            twin = type(module)(module.config)
    else:
        raise ModelError(
            f"{type(module).__name__} is neither a diffusers nor a transformers model, so that `load` could not "
            "rebuild it. Models must come from a class with a configuration (diffusers.ModelMixin)."
        )
    # Each tensor's own dtype: a class may keep some in float32, and the first of all may be one of them.
    dtypes = {name: tensor.dtype for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    for name, tensor in [*twin.named_parameters(), *twin.named_buffers()]:
        tensor.data = tensor.data.to(dtypes.get(name, tensor.dtype))
    return twin.requires_grad_(False).eval().to("meta")  # type: ignore[no-any-return]


def build_model(
    kind: type[Any], folder: Path, dtype: torch.dtype, context: Callable[[], AbstractContextManager[Any]]
) -> nn.Module:
    """Build a model from the configuration in `folder`, under `context` (a device, or accelerate's init_empty_weights).

    Raises:
        ModelError: the configuration is missing or does not fit the class.
    """
    with Made(folder, f"no {kind.__name__} can be built from it"):
        if issubclass(kind, diffusers.ModelMixin):
            config = kind.load_config(str(folder), local_files_only=True)  # type: ignore[attr-defined]
            # As from_pretrained does: what a constructor computes, rotary frequencies for one, has this dtype's digits.
            with context(), _default_dtype(dtype):
                return _finish(kind.from_config(config), dtype)  # type: ignore[attr-defined]
        config = kind.config_class.from_pretrained(str(folder), local_files_only=True)
        with context():
            module = _finish(kind(config), dtype)
        # init_empty_weights makes a tensor of its own for every name of a tied one.
        module.tie_weights()  # type: ignore[operator]
        return module


def find_class(library: str, class_name: str) -> type[Any]:
    """The class that `model_index.json` names as [library, class].

    Raises:
        ModelError: it is not a class of diffusers or transformers; nothing else is ever imported.
    """
    if library in ("diffusers", "transformers"):
        found = getattr({"diffusers": diffusers, "transformers": transformers}[library], class_name, None)
    else:
        # Some pipelines keep a component's class in their own folder, as Stable Diffusion does its safety checker.
        found = getattr(getattr(diffusers.pipelines, library, None), class_name, None)
    if not isinstance(found, type):
        raise ModelError(
            f"model_index.json names {library}.{class_name}; diffusers {diffusers.__version__} and transformers "
            f"{transformers.__version__} have no such class. Update them, or check the model."
        )
    return found


def models_of(pipeline: diffusers.DiffusionPipeline) -> dict[str, nn.Module]:
    """The components that are models, by name."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def denoiser_of(components: dict[str, nn.Module]) -> str:
    """Name of the component that runs at every step.

    Raises:
        PlanError: there is none under the names diffusers uses.
    """
    for name in DENOISERS:
        if name in components:
            return name
    raise PlanError(f"none of the components {', '.join(components)} is a denoiser ({' or '.join(DENOISERS)}).")


def check_call(pipeline: diffusers.DiffusionPipeline, call: dict[str, Any]) -> None:
    """Refuse arguments that the pipeline's call does not take.

    Raises:
        PlanError: naming the argument and those that exist.
    """
    import inspect

    known = set(inspect.signature(type(pipeline).__call__).parameters) - {"self"}
    for name in call:
        if name not in known:
            raise PlanError(f"call.{name}: {type(pipeline).__name__} takes no {name!r}; {nearest(name, known)}.")


def refuse_output_options(call: dict[str, Any]) -> None:
    """Refuse arguments of a recipe's call that say in which form the pipeline gives back what it painted.

    Raises:
        PlanError: naming the argument.
    """
    if "return_dict" in call:
        raise PlanError(
            "call.return_dict: how the pipeline gives back its pictures is qcompile's own, which has to find them; "
            "take it out. The denoiser is called with return_dict=False by the pipeline itself."
        )
    if call.get("output_type", "pil") != "pil":
        raise PlanError(
            f"call.output_type: {call['output_type']!r} is none of qcompile's, whose commands make pictures; allowed "
            "is pil, which is meant where nothing is said. Take it out, and give it to the pipeline that you load."
        )


def check_size(pipeline: diffusers.DiffusionPipeline, height: int | None, width: int | None, place: str = "") -> None:
    """Refuse a size that the pipeline would round, which it tells its log alone.

    Args:
        pipeline: real or on meta.
        height: in pixels; None where none is named.
        width: the same.
        place: what stands before `height` and `width` in messages: `shapes.0.`.

    Raises:
        PlanError: naming the sizes on both sides.
    """
    # Pipelines that pack latents in pairs have twice the autoencoder's factor here.
    processor = getattr(pipeline, "image_processor", None) or getattr(pipeline, "video_processor", None)
    factor = getattr(getattr(processor, "config", None), "vae_scale_factor", None)
    if not isinstance(factor, int) or factor < 1:
        return
    for name, size in (("height", height), ("width", width)):
        if size is not None and size % factor:
            below = size // factor * factor
            sizes = f"{below} or {below + factor}" if below else f"{factor}"
            raise PlanError(
                f"{place}{name}: {size} is no multiple of {factor}, which {type(pipeline).__name__} needs; it would "
                f"round it. Use {sizes}."
            )


def set_default_size(pipeline: diffusers.DiffusionPipeline, height: int | None, width: int | None) -> None:
    """Make a square size the one the pipeline takes where a call names none, where diffusers lets it be set."""
    if height is None or height != width or not isinstance(getattr(pipeline, "default_sample_size", None), int):
        return
    pipeline.default_sample_size = height // pipeline.vae_scale_factor


def _optional(folder: Path) -> list[str]:
    """Components that the pipeline class knows and this folder does not have (`[null, null]`)."""
    return [name for name, value in model_index(folder).items() if isinstance(value, list) and value[0] is None]


def _component_in(traceback: TracebackType | None) -> str | None:
    """Name of the component at which diffusers failed; its errors don't say, but the function that loads one knows."""
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name == "load_sub_model":
            name = traceback.tb_frame.f_locals.get("name")
            return name if isinstance(name, str) else None
        traceback = traceback.tb_next
    return None


def _reason(error: BaseException) -> str:
    """What an error says, as one line; a KeyError's text is the key alone, and an AssertionError may have none."""
    lines = str(error).strip().splitlines() or [""]
    text = " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])
    return f"{type(error).__name__}: {text}" if isinstance(error, LookupError | AssertionError) else text


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _finish(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast as `from_pretrained(dtype=dtype)` does: what a file holds, but for what the class keeps in float32.

    Buffers that are not saved stay as they were built.
    """
    is_diffusers = isinstance(module, diffusers.ModelMixin)
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or ()) if is_diffusers else set()
    tensors = module.state_dict(keep_vars=True) if is_diffusers else dict(module.named_parameters())
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.float32 if kept.intersection(name.split(".")) else dtype)
    return module.requires_grad_(False).eval()
