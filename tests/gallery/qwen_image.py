"""Qwen-Image: numbers of transformer/config.json and scheduler_config.json in Qwen/Qwen-Image."""

from functools import partial

from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, qwen_vl_7b
from gallery.tokenizer import tiny

QWEN_IMAGE = Family(
    pipeline="QwenImagePipeline",
    parts={
        "transformer": Part(
            "QwenImageTransformer2DModel",
            full={
                "num_layers": 60,
                "num_attention_heads": 24,
                "attention_head_dim": 128,
                "in_channels": 64,
                "out_channels": 16,
                "joint_attention_dim": 3584,
                "axes_dims_rope": (16, 56, 56),
            },
            tiny={
                "num_layers": 2,
                "num_attention_heads": 2,
                "attention_head_dim": 16,
                "joint_attention_dim": WIDTH,
                "axes_dims_rope": (4, 6, 6),
            },
        ),
        "vae": Part(
            "AutoencoderKLQwenImage", full={}, tiny={"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
        ),
        "text_encoder": qwen_vl_7b(),
    },
    scheduler=(
        "FlowMatchEulerDiscreteScheduler",
        {
            "base_shift": 0.5,
            "max_shift": 0.9,
            "base_image_seq_len": 256,
            "max_image_seq_len": 8192,
            "shift_terminal": 0.02,
            "use_dynamic_shifting": True,
        },
    ),
    tokenizers={"tokenizer": partial(tiny, 1058)},
    parameters=20_430_401_088,
    twin=("call.num_inference_steps=2", "shapes=[{height: 64, width: 64}]"),
)
