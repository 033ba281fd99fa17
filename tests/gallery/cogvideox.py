"""CogVideoX: numbers of transformer/config.json, vae/config.json and scheduler_config.json in zai-org/CogVideoX-5b."""

from functools import partial

from gallery.family import Family, Part
from gallery.text_encoders import WIDTH, t5_xxl
from gallery.tokenizer import tiny

COGVIDEOX = Family(
    pipeline="CogVideoXPipeline",
    parts={
        "transformer": Part(
            "CogVideoXTransformer3DModel",
            full={
                "num_layers": 42,
                "num_attention_heads": 48,
                "attention_head_dim": 64,
                "time_embed_dim": 512,
                "text_embed_dim": 4096,
                "sample_width": 90,
                "sample_height": 60,
                "sample_frames": 49,
                "max_text_seq_length": 226,
                "use_rotary_positional_embeddings": True,
            },
            tiny={
                "num_layers": 2,
                "num_attention_heads": 2,
                "attention_head_dim": 16,
                "in_channels": 4,
                "out_channels": 4,
                "time_embed_dim": 16,
                "text_embed_dim": WIDTH,
                "sample_width": 4,
                "sample_height": 4,
                "sample_frames": 9,
                "max_text_seq_length": 32,
            },
        ),
        "vae": Part(
            "AutoencoderKLCogVideoX",
            full={"scaling_factor": 0.7, "sample_height": 480, "sample_width": 720},
            tiny={
                "block_out_channels": (8, 8, 8, 8),
                "latent_channels": 4,
                "layers_per_block": 1,
                "norm_num_groups": 2,
                "sample_height": 32,
                "sample_width": 32,
            },
        ),
        "text_encoder": t5_xxl(),
    },
    scheduler=(
        "CogVideoXDDIMScheduler",
        {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "snr_shift_scale": 1.0,
            "timestep_spacing": "trailing",
            "set_alpha_to_one": True,
        },
    ),
    tokenizers={"tokenizer": partial(tiny, 226)},
    parameters=5_570_000_000,
    twin=(
        "call.num_inference_steps=2",
        "call.max_sequence_length=32",
        "shapes=[{height: 32, width: 32, frames: 9}]",
    ),
)
