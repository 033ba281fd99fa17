"""LTX-Video: numbers of transformer/config.json and scheduler_config.json in Lightricks/LTX-Video."""

from functools import partial

from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, t5_xxl
from gallery.tokenizer import tiny

LTX = Family(
    pipeline="LTXPipeline",
    parts={
        "transformer": Part(
            "LTXVideoTransformer3DModel",
            full={
                "num_layers": 28,
                "num_attention_heads": 32,
                "attention_head_dim": 64,
                "cross_attention_dim": 2048,
                "caption_channels": 4096,
                "in_channels": 128,
                "out_channels": 128,
            },
            tiny={
                "num_layers": 2,
                "num_attention_heads": 2,
                "attention_head_dim": 16,
                "cross_attention_dim": 32,
                "caption_channels": WIDTH,
                "in_channels": 16,
                "out_channels": 16,
            },
        ),
        "vae": Part(
            "AutoencoderKLLTXVideo",
            full={},
            tiny={
                "block_out_channels": (8, 8, 8, 8),
                "decoder_block_out_channels": (8, 8, 8, 8),
                "layers_per_block": (1, 1, 1, 1, 1),
                "decoder_layers_per_block": (1, 1, 1, 1, 1),
                "latent_channels": 16,
            },
        ),
        "text_encoder": t5_xxl(),
    },
    scheduler=(
        "FlowMatchEulerDiscreteScheduler",
        {
            "base_shift": 0.95,
            "max_shift": 2.05,
            "base_image_seq_len": 1024,
            "max_image_seq_len": 4096,
            "shift_terminal": 0.1,
            "use_dynamic_shifting": True,
        },
    ),
    tokenizers={"tokenizer": partial(tiny, 128)},
    parameters=1_923_385_472,
    twin=(
        "call.num_inference_steps=2",
        "call.max_sequence_length=32",
        "shapes=[{height: 96, width: 96, frames: 9}]",
    ),
)
