# SPDX-License-Identifier: Apache-2.0
"""First phase: the text encoders learn to read captions. They stay as they are afterwards, as FLUX's do.

CLIP's pooled output learns to tell the whole scene, each of T5's tokens what its word is and which part it plays in
the sentence. Trained with the denoiser alone they learn both so slowly that colours and shapes of two things get
mixed up.
"""

import torch
from diffusers import FluxPipeline
from torch import nn
from torch.nn import functional

from qcompile.builtin.architecture import TEXT_TOKENS, vocabulary
from qcompile.builtin.captions import COLOURS, RELATIONS, SHAPES, SIZES, Caption, train_captions
from qcompile.builtin.render import caption_table
from qcompile.builtin.schedule import Length, learning_rate, steps_of

PARTS = ("none", "size", "colour", "shape", "relation", "second colour", "second shape", "background")
"""Parts that a word can play in a caption."""
SCENE_CLASSES = (
    len(COLOURS),
    len(RELATIONS) + 1,
    len(SIZES) + 1,
    len(COLOURS),
    len(SHAPES),
    len(COLOURS) + 1,
    len(SHAPES) + 1,
)
"""Classes of each column of `caption_table`; where a caption says nothing there is one more."""
FEATURES = 64
PEAK_RATE = 2e-3


def train_text(pipeline: FluxPipeline, length: Length, batch: int, device: torch.device, seed: int) -> dict[str, float]:
    """Train both encoders in place.

    Returns:
        Steps done, and fractions of scenes and words read right in the last batch.
    """
    torch.manual_seed(seed)
    captions = train_captions()
    ids = token_ids(pipeline, [caption.text for caption in captions]).to(device)
    parts = torch.tensor([parts_of(caption) for caption in captions], device=device)
    scenes = caption_table(captions).to(device)
    scenes = torch.where(scenes < 0, torch.tensor(SCENE_CLASSES, device=device) - 1, scenes)
    clip, t5 = pipeline.text_encoder.to(device).train(), pipeline.text_encoder_2.to(device).train()
    scene_head = nn.Linear(FEATURES, sum(SCENE_CLASSES)).to(device)
    word_head, part_head = nn.Linear(FEATURES, len(vocabulary())).to(device), nn.Linear(FEATURES, len(PARTS)).to(device)
    modules = nn.ModuleList([clip, t5, scene_head, word_head, part_head])
    optimizer = torch.optim.AdamW(modules.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    step, scene_right, word_right = 0, 0.0, 0.0
    for step, progress in steps_of(length, "text"):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(PEAK_RATE, step, progress)
        picks = torch.randint(len(ids), (batch,), device=device)
        tokens = t5(ids[picks]).last_hidden_state
        columns = scene_head(clip(ids[picks]).pooler_output).split(SCENE_CLASSES, dim=1)
        told = [functional.cross_entropy(column, scenes[picks, index]) for index, column in enumerate(columns)]
        words, roles = word_head(tokens), part_head(tokens)
        loss = torch.stack(told).sum()
        loss = loss + functional.cross_entropy(words.flatten(0, 1), ids[picks].flatten())
        loss = loss + functional.cross_entropy(roles.flatten(0, 1), parts[picks].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or progress > 0.98:
            read = torch.stack([column.argmax(1) for column in columns], dim=1)
            scene_right = (read == scenes[picks]).all(1).float().mean().item()
            both = (words.argmax(2) == ids[picks]) & (roles.argmax(2) == parts[picks])
            word_right = both.float().mean().item()
    clip.eval().requires_grad_(False)
    t5.eval().requires_grad_(False)
    return {"steps": step + 1, "scenes_right": scene_right, "words_right": word_right}


def token_ids(pipeline: FluxPipeline, texts: list[str]) -> torch.Tensor:
    """Token ids [len(texts), TEXT_TOKENS], as the pipeline makes them."""
    found: torch.Tensor = pipeline.tokenizer(
        texts, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    return found


def parts_of(caption: Caption) -> list[int]:
    """The part each of TEXT_TOKENS tokens plays, as an index of PARTS; the first token is the start token."""
    first, *rest = caption.things
    words = ["none", "none"]
    words += ["size"] * (first.size is not None) + ["colour", "shape"]
    if caption.relation is not None and rest:
        words += ["relation"] * len(caption.relation.split()) + ["none", "second colour", "second shape"]
    words += ["none", "none", "background"]
    return [PARTS.index(word) for word in words] + [0] * (TEXT_TOKENS - len(words))
