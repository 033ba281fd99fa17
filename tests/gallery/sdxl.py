"""SDXL: numbers of unet/config.json and scheduler_config.json in stabilityai/stable-diffusion-xl-base-1.0."""

from functools import partial

from gallery.autoencoders import sdxl
from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, clip_g, clip_l
from gallery.tokenizer import tiny

SDXL = Family(
    pipeline="StableDiffusionXLPipeline",
    parts={
        "unet": Part(
            "UNet2DConditionModel",
            full={
                "sample_size": 128,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "attention_head_dim": (5, 10, 20),
                "block_out_channels": (320, 640, 1280),
                "cross_attention_dim": 2048,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "layers_per_block": 2,
                "projection_class_embeddings_input_dim": 2816,
                "transformer_layers_per_block": (1, 2, 10),
                "use_linear_projection": True,
            },
            tiny={
                "sample_size": 16,
                "addition_time_embed_dim": 8,
                "attention_head_dim": (2, 4),
                "block_out_channels": (32, 64),
                "cross_attention_dim": 2 * WIDTH,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                "layers_per_block": 1,
                # Six numbers of sizes and crops, and the pooled text.
                "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
                "transformer_layers_per_block": (1, 1),
                "norm_num_groups": 8,
            },
        ),
        # Its 1x1 convolutions have 128 channels on one side, as those that the recipe swaps.
        "vae": sdxl(tiny={"block_out_channels": (64, 128)}),
        "text_encoder": clip_l(),
        "text_encoder_2": clip_g(),
    },
    scheduler=(
        "EulerDiscreteScheduler",
        {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "steps_offset": 1,
            "timestep_spacing": "leading",
        },
    ),
    tokenizers={"tokenizer": partial(tiny, 77), "tokenizer_2": partial(tiny, 77)},
    parameters=2_567_463_684,
    settings={"force_zeros_for_empty_prompt": True},
    absent=("image_encoder", "feature_extractor"),
    twin=("call.num_inference_steps=2", "shapes=[{height: 32, width: 32}]"),
)
