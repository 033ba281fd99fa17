"""HunyuanVideo: numbers of transformer/config.json in hunyuanvideo-community/HunyuanVideo."""

from functools import partial

from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, clip_l, llama_8b
from gallery.tokenizer import tiny

HUNYUAN_VIDEO = Family(
    pipeline="HunyuanVideoPipeline",
    parts={
        "transformer": Part(
            "HunyuanVideoTransformer3DModel",
            full={
                "num_layers": 20,
                "num_single_layers": 40,
                "num_refiner_layers": 2,
                "num_attention_heads": 24,
                "attention_head_dim": 128,
                "in_channels": 16,
                "out_channels": 16,
                "text_embed_dim": 4096,
                "pooled_projection_dim": 768,
                "guidance_embeds": True,
                "rope_axes_dim": (16, 56, 56),
            },
            tiny={
                "num_layers": 2,
                "num_single_layers": 2,
                "num_refiner_layers": 1,
                "num_attention_heads": 2,
                "attention_head_dim": 16,
                "in_channels": 4,
                "out_channels": 4,
                "text_embed_dim": WIDTH,
                "pooled_projection_dim": WIDTH,
                "rope_axes_dim": (4, 6, 6),
            },
        ),
        "vae": Part(
            "AutoencoderKLHunyuanVideo",
            full={},
            tiny={
                "block_out_channels": (8, 8, 8, 8),
                "latent_channels": 4,
                "layers_per_block": 1,
                "norm_num_groups": 4,
            },
        ),
        "text_encoder": llama_8b(),
        "text_encoder_2": clip_l(),
    },
    scheduler=("FlowMatchEulerDiscreteScheduler", {"shift": 7.0}),
    tokenizers={"tokenizer": partial(tiny, 351), "tokenizer_2": partial(tiny, 77)},
    parameters=12_821_012_544,
    twin=(
        "call.num_inference_steps=2",
        "call.max_sequence_length=32",
        "shapes=[{height: 64, width: 64, frames: 5}]",
    ),
)
