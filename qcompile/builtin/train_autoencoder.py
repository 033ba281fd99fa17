# SPDX-License-Identifier: Apache-2.0
"""First phase: the autoencoder learns to draw what the renderer draws."""

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from qcompile.builtin.captions import train_captions
from qcompile.builtin.render import caption_table, place, render
from qcompile.builtin.schedule import Length, learning_rate, steps_of

KL_WEIGHT = 2e-5
"""Of the mean KL divergence against the errors of pixels in [-1, 1]. At 1e-3 a quarter of the latents' variance was
noise, which no denoiser can predict; at this weight it is about one percent, and latents are still smooth."""


def train_autoencoder(
    vae: AutoencoderKL, length: Length, batch: int, device: torch.device, seed: int
) -> dict[str, float]:
    """Train in place, then set the config's shift and scale so that latents have mean 0 and deviation 1.

    Returns:
        Steps done and the last losses.
    """
    generator = torch.Generator(device).manual_seed(seed)
    table = caption_table(train_captions()).to(device)
    vae.train().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    step, error, divergence = 0, torch.zeros(()), torch.zeros(())
    for step, progress in steps_of(length, "autoencoder"):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(2e-3, step, progress)
        images = draw(table, batch, 128, 128, generator)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = vae.encode(images).latent_dist
            painted = vae.decode(posterior.sample()).sample
        error = functional.l1_loss(painted.float(), images) + functional.mse_loss(painted.float(), images)
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        optimizer.zero_grad(set_to_none=True)
        (error + KL_WEIGHT * divergence).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
    vae.eval().requires_grad_(False)
    mean, deviation = latent_moments(vae, table, generator)
    vae.register_to_config(shift_factor=mean, scaling_factor=1 / deviation)
    return {
        "steps": step + 1,
        "pixel_error": error.item(),
        "kl": divergence.item(),
        "mean": mean,
        "deviation": deviation,
    }


def draw(table: torch.Tensor, batch: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Pictures of `batch` captions drawn from both forms equally often: [batch, 3, height, width]."""
    return render(place(table[choose(table, batch, generator)], height, width, generator), height, width)


def choose(table: torch.Tensor, batch: int, generator: torch.Generator) -> torch.Tensor:
    """Row numbers of `batch` captions, half of them with two things: [batch]."""
    alone = (table[:, 1] < 0).nonzero()[:, 0]
    paired = (table[:, 1] >= 0).nonzero()[:, 0]
    picks = [
        torch.randint(len(rows), (batch // 2,), generator=generator, device=table.device) for rows in (alone, paired)
    ]
    return torch.cat([alone[picks[0]], paired[picks[1]]])


@torch.no_grad()
def latent_moments(vae: AutoencoderKL, table: torch.Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Mean and standard deviation of latents over a thousand pictures."""
    latents = [vae.encode(draw(table, 100, 128, 128, generator)).latent_dist.mode() for _ in range(10)]
    values = torch.cat(latents).float()
    return round(values.mean().item(), 6), round(values.std().item(), 6)
