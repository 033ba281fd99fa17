"""SD3: numbers of transformer/config.json in stabilityai/stable-diffusion-3-medium-diffusers."""

from functools import partial

from gallery.autoencoders import kl
from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, clip_g, clip_l, t5_xxl
from gallery.tokenizer import tiny

SD3 = Family(
    pipeline="StableDiffusion3Pipeline",
    parts={
        "transformer": Part(
            "SD3Transformer2DModel",
            full={
                "sample_size": 128,
                "in_channels": 16,
                "out_channels": 16,
                "num_layers": 24,
                "attention_head_dim": 64,
                "num_attention_heads": 24,
                "joint_attention_dim": 4096,
                "caption_projection_dim": 1536,
                "pooled_projection_dim": 2048,
                "pos_embed_max_size": 192,
            },
            tiny={
                "sample_size": 8,
                "in_channels": 4,
                "out_channels": 4,
                "num_layers": 3,
                "attention_head_dim": 16,
                "num_attention_heads": 2,
                # Features of both CLIP encoders side by side.
                "joint_attention_dim": 2 * WIDTH,
                "caption_projection_dim": 32,
                "pooled_projection_dim": 2 * WIDTH,
                "pos_embed_max_size": 16,
            },
        ),
        "vae": kl(
            {
                "latent_channels": 16,
                "scaling_factor": 1.5305,
                "shift_factor": 0.0609,
                "use_quant_conv": False,
                "use_post_quant_conv": False,
            },
            {"latent_channels": 4},
        ),
        "text_encoder": clip_l("CLIPTextModelWithProjection"),
        "text_encoder_2": clip_g(),
        "text_encoder_3": t5_xxl(tiny_width=2 * WIDTH),
    },
    scheduler=("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    tokenizers={"tokenizer": partial(tiny, 77), "tokenizer_2": partial(tiny, 77), "tokenizer_3": partial(tiny, 512)},
    parameters=2_084_951_104,
    absent=("image_encoder", "feature_extractor"),
    twin=("call.num_inference_steps=2", "call.max_sequence_length=32", "shapes=[{height: 16, width: 16}]"),
)
