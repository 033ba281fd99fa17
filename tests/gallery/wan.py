"""Wan: numbers of transformer/config.json and scheduler_config.json in Wan-AI/Wan2.1-T2V-14B-Diffusers."""

from functools import partial

from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, umt5_xxl
from gallery.tokenizer import tiny

WAN = Family(
    pipeline="WanPipeline",
    parts={
        "transformer": Part(
            "WanTransformer3DModel",
            full={
                "num_layers": 40,
                "num_attention_heads": 40,
                "attention_head_dim": 128,
                "ffn_dim": 13824,
                "text_dim": 4096,
                "freq_dim": 256,
                "rope_max_seq_len": 1024,
            },
            tiny={
                "num_layers": 2,
                "num_attention_heads": 2,
                "attention_head_dim": 16,
                "ffn_dim": 64,
                "text_dim": WIDTH,
                "freq_dim": 16,
                "rope_max_seq_len": 32,
            },
        ),
        "vae": Part("AutoencoderKLWan", full={}, tiny={"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}),
        "text_encoder": umt5_xxl(),
    },
    scheduler=(
        "UniPCMultistepScheduler",
        {
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
            "num_train_timesteps": 1000,
            "flow_shift": 5.0,
        },
    ),
    tokenizers={"tokenizer": partial(tiny, 512)},
    parameters=14_288_491_584,
    settings={"boundary_ratio": None, "expand_timesteps": False},
    absent=("transformer_2",),
    twin=(
        "call.num_inference_steps=2",
        "call.max_sequence_length=32",
        "shapes=[{height: 64, width: 64, frames: 5}]",
    ),
)
