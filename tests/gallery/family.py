"""A model family as the gallery's tests need it: its pipeline's published configuration, and a shrunken twin."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn


@dataclass(frozen=True)
class Part:
    """One model of a pipeline. `full` are the arguments of its configuration as published, `tiny` what the twin has instead."""

    class_name: str
    full: Mapping[str, Any]
    tiny: Mapping[str, Any]
    library: str = "diffusers"

    def write(self, folder: Path) -> None:
        """Write `config.json` at full size; no weights, and none are made."""
        kind = getattr({"diffusers": diffusers, "transformers": transformers}[self.library], self.class_name)
        if self.library == "transformers":
            kind.config_class(**self.full).save_pretrained(folder)
            return
        with torch.device("meta"):
            kind(**self.full).save_config(folder)

    def build(self) -> nn.Module:
        """The shrunken model, with random weights."""
        kind = getattr({"diffusers": diffusers, "transformers": transformers}[self.library], self.class_name)
        options = {**self.full, **self.tiny}
        return kind(kind.config_class(**options)) if self.library == "transformers" else kind(**options)


@dataclass(frozen=True)
class Family:
    """A pipeline class with everything it is made of."""

    pipeline: str
    parts: Mapping[str, Part]
    scheduler: tuple[str, Mapping[str, Any]]
    tokenizers: Mapping[str, Callable[[], Any]]
    parameters: int
    """Published number of the denoiser's parameters."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the pipeline that are no components."""
    absent: tuple[str, ...] = ()
    """Components that the class knows and this model has none of."""
    twin: tuple[str, ...] = ()
    """Overrides with which a recipe for the full model fits the twin: `call.num_inference_steps=2`, `shapes=[...]`."""

    def write_full(self, folder: Path) -> Path:
        """Write the pipeline folder at published size, without weights."""
        index: dict[str, Any] = {"_class_name": self.pipeline, "_diffusers_version": diffusers.__version__}
        for name, part in self.parts.items():
            part.write(folder / name)
            index[name] = [part.library, part.class_name]
        for name, make in self.tokenizers.items():
            made = make()
            made.save_pretrained(folder / name)
            index[name] = ["transformers", type(made).__name__]
        self._scheduler().save_pretrained(folder / "scheduler")
        index["scheduler"] = ["diffusers", self.scheduler[0]]
        index |= {name: [None, None] for name in self.absent} | dict(self.settings)
        (folder / "model_index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
        return folder

    def write_twin(self, folder: Path) -> Path:
        """Write a pipeline of the same classes, a block or two deep, with seeded random weights."""
        torch.manual_seed(0)
        models = {name: part.build().to(torch.bfloat16).eval() for name, part in self.parts.items()}
        made = {name: make() for name, make in self.tokenizers.items()}
        kind = getattr(diffusers, self.pipeline)
        absent = dict.fromkeys(self.absent)
        pipeline = kind(**models, **made, **absent, scheduler=self._scheduler(), **self.settings)
        pipeline.save_pretrained(folder)
        return folder

    def _scheduler(self) -> Any:
        name, options = self.scheduler
        return getattr(diffusers, name)(**options)
