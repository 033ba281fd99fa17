"""What a recipe says besides its steps: name, model, call, shapes, bounds."""

from typing import Literal

import pydantic

_FROZEN = pydantic.ConfigDict(frozen=True, extra="forbid")


class ModelSource(pydantic.BaseModel):
    """The model a recipe is for."""

    model_config = _FROZEN

    id: str | None = pydantic.Field(
        None,
        min_length=1,
        description="Hub id, local folder in diffusers format, or builtin:NAME; left out where a recipe is for any "
        "model: give one with --model",
    )
    revision: str | None = pydantic.Field(None, description="commit, branch or tag on the Hub")
    dtype: Literal["bfloat16", "float16", "float32"] = pydantic.Field("bfloat16", description="dtype of the weights")


class Shape(pydantic.BaseModel):
    """One size the pipeline is called with; packages are built for each."""

    model_config = _FROZEN

    height: int | None = pydantic.Field(None, ge=1, description="pixels; left out: the pipeline's default")
    width: int | None = pydantic.Field(None, ge=1, description="pixels; left out: the pipeline's default")
    batch: int = pydantic.Field(1, ge=1, description="images (prompts) of one call")
    frames: int | None = pydantic.Field(None, ge=1, description="frames of a video pipeline")

    @property
    def label(self) -> str:
        """`1024x768_b2` (height x width), with `_f81` for frames; names folders and messages."""
        size = f"{self.height}x{self.width}" if self.height and self.width else "default"
        return f"{size}_b{self.batch}" + (f"_f{self.frames}" if self.frames else "")


class Bounds(pydantic.BaseModel):
    """What `apply` checks before it puts the artifact in place."""

    model_config = _FROZEN

    max_relative_error: float | None = pydantic.Field(
        None,
        gt=0,
        description="of the denoiser's output on captured inputs, quantized and compiled against the original",
    )
    max_compiled_error: float = pydantic.Field(
        0.02,
        gt=0,
        description="of compiled against eager output of the same weights, for layers and denoiser, at the "
        "first step of every shape",
    )
    max_step_error: float | None = pydantic.Field(
        None,
        gt=0,
        description="of the denoiser's output at every step along the original's own trajectory, for the first shape; "
        "the largest",
    )
    min_psnr_db: float | None = pydantic.Field(
        None, gt=0, description="of the image against the original's, same prompt and seed; the median of several"
    )
    min_ssim: float | None = pydantic.Field(
        None,
        gt=0,
        le=1,
        description="structural similarity of the image to the original's, same prompt and seed; the median of several",
    )
    max_score_loss_points: float | None = pydantic.Field(
        None,
        ge=0,
        description="images of 100 that show less of their caption than the original's do; builtin:flux-mini only",
    )


class Header(pydantic.BaseModel):
    """Everything of a recipe but its steps."""

    model_config = _FROZEN

    name: str = pydantic.Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", description="equals the file's name without .yaml")
    version: int = pydantic.Field(ge=1, description="counts the recipe's own changes")
    summary: str = pydantic.Field("", description="one line for the catalogue")
    model: ModelSource
    call: dict[str, pydantic.JsonValue] = pydantic.Field(
        default_factory=dict, description="how users call the pipeline; apply runs it to capture real inputs"
    )
    shapes: tuple[Shape, ...] = pydantic.Field((), description="sizes to build packages for")
    verify: Bounds = pydantic.Field(default_factory=Bounds)
