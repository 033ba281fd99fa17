"""Wan and the video classes that follow its blocks."""

from breadth.case import Case, Values, filled, noise

_SIZES = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 24,
    "freq_dim": 32,
    "ffn_dim": 64,
    "num_layers": 2,
}
_ROPE = {"rope_max_seq_len": 32}
_VIDEO = {"hidden_states": noise(1, 4, 2, 8, 8), "encoder_hidden_states": noise(1, 8, 24)}
_STEP = {"timestep": filled(500, 1)}
# What comes before the last 512 tokens is taken for the image.
_IMAGE = {"encoder_hidden_states": noise(1, 512, 24), "encoder_hidden_states_image": noise(1, 4, 24)}

CASES = {
    "WanTransformer3DModel": Case(_SIZES | _ROPE, _VIDEO | _STEP),
    "WanVACETransformer3DModel": Case(
        _SIZES | _ROPE | {"num_layers": 3, "vace_layers": [0, 2], "vace_in_channels": 6},
        _VIDEO | _STEP | {"control_hidden_states": noise(1, 6, 2, 8, 8)},
    ),
    "WanAnimateTransformer3DModel": Case(
        _SIZES
        | _ROPE
        | {
            "in_channels": 12,
            "latent_channels": 4,
            "image_dim": 24,
            "added_kv_proj_dim": 32,
            "motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 16},
            "motion_encoder_size": 16,
            "motion_style_dim": 8,
            "motion_dim": 4,
            "motion_encoder_dim": 16,
            "face_encoder_hidden_dim": 16,
            "face_encoder_num_heads": 2,
            "inject_face_latents_blocks": 2,
        },
        _IMAGE
        | _STEP
        | {
            "hidden_states": noise(1, 12, 3, 8, 8),
            "pose_hidden_states": noise(1, 4, 2, 8, 8),
            "face_pixel_values": noise(1, 3, 5, 16, 16),
        },
    ),
    "SkyReelsV2Transformer3DModel": Case(
        _SIZES | _ROPE | {"num_frame_per_block": 2},
        _VIDEO | {"timestep": Values([[400, 500]]), "enable_diffusion_forcing": True},
    ),
    "ChronoEditTransformer3DModel": Case(
        _SIZES | _ROPE | {"image_dim": 24, "added_kv_proj_dim": 32, "rope_temporal_skip_len": 4},
        _VIDEO | _STEP | _IMAGE,
    ),
    "AnyFlowTransformer3DModel": Case(
        _SIZES | _ROPE,
        _VIDEO
        | {
            "hidden_states": noise(1, 2, 4, 8, 8),
            "timestep": filled(500.0, 1, 2),
            "r_timestep": filled(250.0, 1, 2),
        },
    ),
    "AnyFlowFARTransformer3DModel": Case(
        _SIZES | _ROPE | {"compressed_patch_size": (1, 4, 4), "chunk_partition": (1, 1)},
        _VIDEO
        | {
            "hidden_states": noise(1, 2, 4, 8, 8),
            "timestep": filled(500.0, 1, 2),
            "r_timestep": filled(250.0, 1, 2),
            "chunk_partition": [1, 1],
        },
        not_compiled="not compiled: its blocks take a BlockMask; compiled code takes tensors, numbers, strings and containers of them",
    ),
    "HeliosTransformer3DModel": Case(
        _SIZES | {"rope_dim": (4, 6, 6)},
        _VIDEO
        | _STEP
        | {
            "indices_hidden_states": Values([[10, 11]]),
            "indices_latents_history_short": Values([[8, 9]]),
            "indices_latents_history_mid": Values([[6, 7]]),
            "indices_latents_history_long": Values([[2, 3, 4, 5]]),
            "latents_history_short": noise(1, 4, 2, 8, 8),
            "latents_history_mid": noise(1, 4, 2, 8, 8),
            "latents_history_long": noise(1, 4, 4, 8, 8),
        },
    ),
    "SanaVideoTransformer3DModel": Case(
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 2,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 16,
            "cross_attention_dim": 32,
            "caption_channels": 24,
            "sample_size": 8,
            "rope_max_seq_len": 32,
        },
        _VIDEO | _STEP | {"encoder_attention_mask": filled(1, 1, 8)},
    ),
    "SanaWMTransformer3DModel": Case(
        {
            "in_channels": 4,
            "num_layers": 4,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "softmax_every_n": 2,
            "linear_head_dim": 16,
            "chunk_plucker_channels": 6,
            "chunk_plucker_post_attn_blocks": 4,
            "caption_channels": 24,
            "mlp_ratio": 2.0,
        },
        {
            "hidden_states": noise(1, 4, 2, 4, 4),
            "timestep": filled(500.0, 1, 1, 2, dtype="float32"),
            "encoder_hidden_states": noise(1, 1, 8, 24),
            "encoder_attention_mask": filled(1, 1, 8),
            "camera_conditions": Values(
                [[[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0.1 * i, 0, 0, 0, 1, 4, 4, 2, 2] for i in range(2)]],
            ),
            "chunk_plucker": noise(1, 6, 2, 4, 4),
        },
        dtype="float32",  # its camera branch mixes the model's dtype with float32 outside autocast
    ),
}
