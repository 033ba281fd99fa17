"""FLUX.2: numbers of transformer/config.json and vae/config.json in black-forest-labs/FLUX.2-dev."""

from functools import partial

from gallery.autoencoders import TINY
from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, mistral_small
from gallery.tokenizer import CHAT, tiny

FLUX2 = Family(
    pipeline="Flux2Pipeline",
    parts={
        "transformer": Part(
            "Flux2Transformer2DModel",
            full={
                "num_layers": 8,
                "num_single_layers": 48,
                "num_attention_heads": 48,
                "attention_head_dim": 128,
                "in_channels": 128,
                "joint_attention_dim": 15360,
                "mlp_ratio": 3.0,
                "axes_dims_rope": (32, 32, 32, 32),
            },
            tiny={
                "num_layers": 2,
                "num_single_layers": 2,
                "num_attention_heads": 2,
                "attention_head_dim": 16,
                "in_channels": 16,
                # Three layers of the text encoder side by side.
                "joint_attention_dim": 3 * WIDTH,
                "axes_dims_rope": (4, 4, 4, 4),
            },
        ),
        "vae": Part("AutoencoderKLFlux2", full={}, tiny={**TINY, "latent_channels": 4}),
        "text_encoder": mistral_small(),
    },
    scheduler=("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_dynamic_shifting": True}),
    tokenizers={"tokenizer": partial(tiny, 512, chat_template=CHAT)},
    parameters=32_200_000_000,
    twin=(
        "call.num_inference_steps=2",
        "call.max_sequence_length=32",
        "call.text_encoder_out_layers=[0, 1, 2]",
        "shapes=[{height: 32, width: 32}]",
    ),
)
