"""FLUX.1: numbers of the config.json files in black-forest-labs/FLUX.1-dev and FLUX.1-schnell."""

from dataclasses import replace
from functools import partial

from gallery.autoencoders import kl
from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, clip_l, t5_xxl
from gallery.tokenizer import tiny

_FULL = {
    "num_layers": 19,
    "num_single_layers": 38,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "in_channels": 64,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "axes_dims_rope": (16, 56, 56),
}
_TINY = {
    "num_layers": 2,
    "num_single_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 16,
    "joint_attention_dim": WIDTH,
    "pooled_projection_dim": WIDTH,
    "axes_dims_rope": (4, 6, 6),
}

FLUX_DEV = Family(
    pipeline="FluxPipeline",
    parts={
        "transformer": Part("FluxTransformer2DModel", {**_FULL, "guidance_embeds": True}, _TINY),
        "vae": kl(
            {
                "latent_channels": 16,
                "scaling_factor": 0.3611,
                "shift_factor": 0.1159,
                "use_quant_conv": False,
                "use_post_quant_conv": False,
            },
            {"latent_channels": 4},
        ),
        "text_encoder": clip_l(),
        "text_encoder_2": t5_xxl(),
    },
    scheduler=("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_dynamic_shifting": True}),
    tokenizers={"tokenizer": partial(tiny, 77), "tokenizer_2": partial(tiny, 512)},
    parameters=11_901_408_320,
    absent=("image_encoder", "feature_extractor"),
    twin=("call.num_inference_steps=2", "call.max_sequence_length=32", "shapes=[{height: 32, width: 32}]"),
)
FLUX_SCHNELL = replace(
    FLUX_DEV,
    parts={
        **FLUX_DEV.parts,
        "transformer": Part("FluxTransformer2DModel", {**_FULL, "guidance_embeds": False}, _TINY),
    },
    scheduler=("FlowMatchEulerDiscreteScheduler", {"shift": 1.0}),
    parameters=11_891_178_560,
)
