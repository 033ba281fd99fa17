# SPDX-License-Identifier: Apache-2.0
"""What flux-mini is made of: every component of a `FluxPipeline`, small, with random weights."""

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from qcompile.builtin.captions import COLOURS, RELATIONS, SHAPES, SIZES

PAD, END, UNKNOWN, START = "<pad>", "</s>", "<unk>", "<s>"
TEXT_TOKENS = 32
"""Tokens of both text encoders; diffusers masks no padding, so the model is used with what it was trained with."""


def vocabulary() -> tuple[str, ...]:
    """Every token, special ones first; its index is its id."""
    relations = {word for relation in RELATIONS for word in relation.split()}
    return (PAD, END, UNKNOWN, START, "a", "an", "on", "background", *sorted(relations), *SIZES, *COLOURS, *SHAPES)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer of one token a word, lower-casing, that closes every text with an end token."""
    ids = {word: index for index, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, ids[START]), (END, ids[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        bos_token=START,
        model_max_length=TEXT_TOKENS,
    )


def make_transformer() -> FluxTransformer2DModel:
    """4.6 M parameters: 2 double and 3 single blocks of width 192."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=32,
        num_attention_heads=6,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )


def make_autoencoder() -> AutoencoderKL:
    """0.7 M parameters: 4 latent channels at a quarter of the picture's height and width."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=128,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def make_clip() -> CLIPTextModel:
    """The encoder whose pooled output conditions every block."""
    ids = vocabulary()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(ids),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_TOKENS,
            projection_dim=64,
            pad_token_id=ids.index(PAD),
            eos_token_id=ids.index(END),
            bos_token_id=ids.index(START),
        )
    )


def make_t5() -> T5EncoderModel:
    """The encoder whose tokens the double blocks attend to."""
    ids = vocabulary()
    return T5EncoderModel(
        T5Config(
            vocab_size=len(ids),
            d_model=64,
            d_kv=16,
            d_ff=128,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=ids.index(PAD),
            eos_token_id=ids.index(END),
        )
    )


def make_pipeline(seed: int = 0) -> FluxPipeline:
    """The whole pipeline in float32 with random weights drawn from `seed`."""
    torch.manual_seed(seed)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=False),
        vae=make_autoencoder(),
        text_encoder=make_clip(),
        tokenizer=make_tokenizer(),
        text_encoder_2=make_t5(),
        tokenizer_2=make_tokenizer(),
        transformer=make_transformer(),
    )
