# SPDX-License-Identifier: Apache-2.0
"""What the denoiser is trained on: latents of drawn captions, encoded once and drawn from at random, with noise and
captions."""

from dataclasses import dataclass

import torch
from diffusers import FluxPipeline
from tqdm import tqdm

from qcompile.builtin.captions import train_captions
from qcompile.builtin.render import caption_table, place, render
from qcompile.builtin.train_autoencoder import choose
from qcompile.builtin.train_text import token_ids

MAIN = (128, 128)
OTHERS = ((96, 96), (160, 160), (192, 192), (96, 160), (160, 96), (128, 192), (192, 128))
"""Sizes besides 128x128, (height, width)."""
OTHERS_PART = 0.15
"""Part of the batches that have one of them."""
PICTURES = {"cuda": (400_000, 20_000), "cpu": (256, 16)}
"""Pictures kept of the main size and of each other one."""
EMPTY_CAPTIONS = 0.1
GUIDANCE = (1.0, 5.0)
LEVEL_MEAN, LEVEL_DEVIATION = 0.3, 1.2
"""Of the logit of the noise level."""


@dataclass(frozen=True)
class Text:
    """Encoded captions: tokens [B, TEXT_TOKENS, 64] and pooled [B, 64]."""

    tokens: torch.Tensor
    pooled: torch.Tensor

    def __getitem__(self, rows: torch.Tensor) -> "Text":
        return Text(self.tokens[rows], self.pooled[rows])


@dataclass(frozen=True)
class Batch:
    """One batch of B pictures."""

    text: Text
    clean: torch.Tensor
    """[B, tokens, 16] packed latents."""
    noise: torch.Tensor
    level: torch.Tensor
    """[B] noise levels from 0 to 1."""
    guidance: torch.Tensor
    """[B]."""
    size: tuple[int, int]
    """Rows and columns of tokens."""


class Samples:
    """An endless supply of batches from one trained autoencoder and pair of text encoders."""

    def __init__(self, pipeline: FluxPipeline, batch: int, device: torch.device, seed: int) -> None:
        captions = train_captions()
        pipeline.to(device)
        self._batch = batch
        self._generator = torch.Generator(device).manual_seed(seed)
        self._sizes = torch.Generator().manual_seed(seed)
        self._table = caption_table(captions).to(device)
        # The empty caption comes last.
        self._text = _encode_text(pipeline, [*(caption.text for caption in captions), ""], device)
        self.main_size = (MAIN[0] // 8, MAIN[1] // 8)
        many, few = PICTURES[device.type]
        self._kept = {size: self._encode(pipeline, *size, many if size == MAIN else few) for size in (MAIN, *OTHERS)}

    def draw(self) -> Batch:
        """One batch; of sizes other than the main one it has as many tokens as of that."""
        height, width = MAIN
        if torch.rand((), generator=self._sizes).item() < OTHERS_PART:
            height, width = OTHERS[int(torch.randint(len(OTHERS), (), generator=self._sizes))]
        rows, latents = self._kept[height, width]
        device, count = latents.device, max(1, self._batch * MAIN[0] * MAIN[1] // (height * width))
        picks = torch.randint(len(rows), (count,), generator=self._generator, device=device)
        clean = latents[picks].float()
        dropped = torch.rand(count, generator=self._generator, device=device) < EMPTY_CAPTIONS
        share = torch.rand(count, generator=self._generator, device=device)
        level = torch.randn(count, generator=self._generator, device=device) * LEVEL_DEVIATION + LEVEL_MEAN
        return Batch(
            text=self._text[torch.where(dropped, len(self._table), rows[picks])],
            clean=clean,
            noise=torch.randn(clean.shape, generator=self._generator, device=device),
            level=level.sigmoid(),
            guidance=GUIDANCE[0] + share * (GUIDANCE[1] - GUIDANCE[0]),
            size=(height // 8, width // 8),
        )

    def empty(self, count: int) -> Text:
        """The empty caption, `count` times."""
        return self._text[torch.full((count,), len(self._table), device=self._table.device)]

    @torch.no_grad()
    def _encode(self, pipeline: FluxPipeline, height: int, width: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Caption numbers [count] and packed latents [count, tokens, 16]."""
        config, device = pipeline.vae.config, self._table.device
        rows, latents = [], []
        for _ in tqdm(range(0, count, min(count, 500)), desc=f"latents {height}x{width}", mininterval=10):
            chosen = choose(self._table, min(count, 500), self._generator)
            images = render(place(self._table[chosen], height, width, self._generator), height, width)
            with torch.autocast(device.type, torch.bfloat16):
                found = pipeline.vae.encode(images).latent_dist.mode()
            latents.append(pack((found.float() - config.shift_factor) * config.scaling_factor).bfloat16())
            rows.append(chosen)
        return torch.cat(rows), torch.cat(latents)


@torch.no_grad()
def _encode_text(pipeline: FluxPipeline, texts: list[str], device: torch.device) -> Text:
    tokens, pooled = [], []
    for ids in token_ids(pipeline, texts).to(device).split(1000):
        tokens.append(pipeline.text_encoder_2(ids).last_hidden_state)
        pooled.append(pipeline.text_encoder(ids).pooler_output)
    return Text(torch.cat(tokens), torch.cat(pooled))


def pack(latents: torch.Tensor) -> torch.Tensor:
    """[B, C, 2h, 2w] -> [B, h * w, 4C], as `FluxPipeline` packs latents."""
    batch, channels, height, width = latents.shape
    cells = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(batch, height // 2 * (width // 2), channels * 4)
