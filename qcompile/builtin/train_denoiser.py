# SPDX-License-Identifier: Apache-2.0
"""Third and fourth phase: flow matching on captions, then distillation of classifier-free guidance into the guidance
input.

Flow matching: Lipman et al. 2023 (arXiv:2210.02747), with the straight paths of Liu et al. 2022 (arXiv:2209.03003)
    and the
logit-normal noise levels of Esser et al. 2024 (arXiv:2403.03206). Guidance distillation: Meng et al. 2023
(arXiv:2210.03142).
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from diffusers import FluxPipeline
from torch import nn
from torch.nn import functional

from qcompile.builtin.samples import Batch, Samples, Text
from qcompile.builtin.schedule import Length, learning_rate, steps_of

PEAK_RATE = {"denoiser": 1.2e-3, "guidance": 4e-4}
EMA_DECAY = 0.999


def train_denoiser(pipeline: FluxPipeline, samples: Samples, length: Length, phase: str) -> dict[str, float]:
    """Train the transformer in place; it ends as the moving average of its weights.

    Args:
        pipeline: its other components are trained already.
        samples: made from this pipeline.
        length: of the phase.
        phase: `denoiser`, or `guidance`: teach the guidance input what classifier-free guidance of the present
            weights does.

    Returns:
        Steps done and the mean loss of the last hundred.
    """
    model = pipeline.transformer.train().requires_grad_(True)
    teacher = copy.deepcopy(model).eval().requires_grad_(False) if phase == "guidance" else None
    average = copy.deepcopy(model).eval().requires_grad_(False)
    device = next(model.parameters()).device
    compiled, compiled_teacher = _compiled(model), None if teacher is None else _compiled(teacher)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=device.type == "cuda"
    )
    losses: list[torch.Tensor] = []
    step = 0
    for step, progress in steps_of(length, phase):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(PEAK_RATE[phase], step, progress)
        batch = samples.draw()
        main = batch.size == samples.main_size
        with torch.autocast(device.type, torch.bfloat16):
            if teacher is None or compiled_teacher is None:
                target, told = batch.noise - batch.clean, torch.ones_like(batch.guidance)
            else:
                target, told = (
                    _guided(compiled_teacher if main else teacher, batch, samples.empty(len(batch.clean))),
                    batch.guidance,
                )
            found = velocity(compiled if main else model, batch, batch.text, told)
            loss = functional.mse_loss(found.float(), target.float())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _average(average, model, min(EMA_DECAY, (step + 1) / (step + 10)))
        losses = [*losses[-99:], loss.detach()]
    pipeline.transformer = average
    return {"steps": step + 1, "loss": torch.stack(losses).mean().item()}


def velocity(transformer: Callable[..., Any], batch: Batch, text: Text, guidance: torch.Tensor) -> torch.Tensor:
    """What the transformer says of a batch's noisy latents: [B, tokens, 16]."""
    mixed = batch.clean + batch.level[:, None, None] * (batch.noise - batch.clean)
    rows, columns = batch.size
    places = torch.stack(
        torch.meshgrid(torch.arange(1), torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1
    )
    # In bfloat16 the pipeline rounds a noise level once as a part of 1 and once as a part of 1000; so does training.
    level = (batch.level.bfloat16() * 1000).float() / 1000
    return transformer(  # type: ignore[no-any-return]
        hidden_states=mixed,
        encoder_hidden_states=text.tokens,
        pooled_projections=text.pooled,
        timestep=level,
        guidance=(guidance.bfloat16() * 1000).float() / 1000,
        img_ids=places.reshape(-1, 3).to(mixed),
        txt_ids=torch.zeros(text.tokens.shape[1], 3).to(mixed),
        return_dict=False,
    )[0]


@torch.no_grad()
def _guided(teacher: Callable[..., Any], batch: Batch, empty: Text) -> torch.Tensor:
    one = torch.ones_like(batch.guidance)
    told = velocity(teacher, batch, batch.text, one)
    untold = velocity(teacher, batch, empty, one)
    return untold + batch.guidance[:, None, None] * (told - untold)


def _compiled(model: nn.Module) -> Callable[..., Any]:
    on_gpu = next(model.parameters()).device.type == "cuda"
    return torch.compile(model, dynamic=False) if on_gpu else model


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)  # type: ignore[no-untyped-call]
