"""AuraFlow: numbers of transformer/config.json in fal/AuraFlow-v0.3."""

from functools import partial

from gallery.autoencoders import sdxl
from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, pile_t5_xl
from gallery.tokenizer import tiny

AURAFLOW = Family(
    pipeline="AuraFlowPipeline",
    parts={
        "transformer": Part(
            "AuraFlowTransformer2DModel",
            full={
                "sample_size": 64,
                "num_mmdit_layers": 4,
                "num_single_dit_layers": 32,
                "num_attention_heads": 12,
                "attention_head_dim": 256,
                "joint_attention_dim": 2048,
                "caption_projection_dim": 3072,
                "pos_embed_max_size": 9216,
            },
            tiny={
                "sample_size": 8,
                "num_mmdit_layers": 2,
                "num_single_dit_layers": 2,
                "num_attention_heads": 2,
                "attention_head_dim": 16,
                "joint_attention_dim": WIDTH,
                "caption_projection_dim": 32,
                "pos_embed_max_size": 64,
            },
        ),
        "vae": sdxl(),
        "text_encoder": pile_t5_xl(),
    },
    scheduler=("FlowMatchEulerDiscreteScheduler", {"shift": 1.73}),
    tokenizers={"tokenizer": partial(tiny, 256)},
    parameters=6_800_000_000,
    twin=("call.num_inference_steps=2", "call.max_sequence_length=32", "shapes=[{height: 16, width: 16}]"),
)
