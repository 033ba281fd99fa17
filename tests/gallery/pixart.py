"""PixArt-Sigma: numbers of transformer/config.json in PixArt-alpha/PixArt-Sigma-XL-2-1024-MS."""

from functools import partial

from gallery.autoencoders import sdxl
from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, t5_xxl
from gallery.tokenizer import tiny

PIXART = Family(
    pipeline="PixArtSigmaPipeline",
    parts={
        "transformer": Part(
            "PixArtTransformer2DModel",
            full={
                "sample_size": 128,
                "num_layers": 28,
                "num_attention_heads": 16,
                "attention_head_dim": 72,
                "cross_attention_dim": 1152,
                "caption_channels": 4096,
                "in_channels": 4,
                "out_channels": 8,
                "interpolation_scale": 2,
                "use_additional_conditions": False,
            },
            tiny={
                "sample_size": 8,
                "num_layers": 2,
                "num_attention_heads": 2,
                "attention_head_dim": 16,
                "cross_attention_dim": 32,
                "caption_channels": WIDTH,
            },
        ),
        "vae": sdxl(force_upcast=False),
        "text_encoder": t5_xxl(),
    },
    scheduler=("DPMSolverMultistepScheduler", {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}),
    tokenizers={"tokenizer": partial(tiny, 512)},
    parameters=610_856_096,
    twin=(
        "call.num_inference_steps=2",
        "call.max_sequence_length=32",
        "call.use_resolution_binning=false",
        "shapes=[{height: 16, width: 16}]",
    ),
)
