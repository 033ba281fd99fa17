"""Video transformers of later families: with sound, with a text stream of their own, over patches packed together."""

from breadth.case import Case, Positions, Values, filled, noise

_HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}
_TEXT = {"encoder_hidden_states": noise(1, 8, 24)}
_LTX2 = _HEADS | {
    "in_channels": 8,
    "out_channels": 8,
    "cross_attention_dim": 32,
    "audio_in_channels": 4,
    "audio_out_channels": 4,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16,
    "num_layers": 2,
    "caption_channels": 24,
}
_PACKED = {
    "timestep": Values([0.7, 0.3]),
    "timestep_indices": Values([0] * 8 + [1] * 6 + [0] * 16),
    "token_tags": Values([1] * 8 + [2] * 6 + [0] * 16),
    "position_ids": Positions((30, 1, 1)),
    "text_indices": Values([*range(8)]),
    "audio_indices": Values([*range(8, 14)]),
    "video_indices": Values([*range(14, 30)]),
}

CASES = {
    "Kandinsky6Transformer3DModel": Case(
        {
            "in_visual_dim": 4,
            "out_visual_dim": 4,
            "in_text_dim": 24,
            "in_text_dim2": 20,
            "time_dim": 16,
            "model_dim": 32,
            "ff_dim": 64,
            "num_text_blocks": 2,
            "num_visual_blocks": 2,
            "axes_dims": (4, 6, 6),
            "in_audio_dim": 4,
            "out_audio_dim": 4,
        },
        _TEXT
        | {
            "hidden_states": noise(1, 2, 8, 8, 9),
            "pooled_projections": noise(1, 20),
            "timestep": filled(500.0, 1),
            "audio_hidden_states": noise(1, 6, 4),
        },
    ),
    "Kandinsky6SRTransformer3DModel": Case(
        {
            "in_visual_dim": 4,
            "out_visual_dim": 8,
            "time_dim": 16,
            "patch_size": (1, 2, 2),
            "model_dim": 32,
            "ff_dim": 64,
            "num_visual_blocks": 2,
            "axes_dims": (4, 6, 6),
        },
        {"hidden_states": noise(1, 2, 16, 16, 9), "timestep": filled(500.0, 1)},
        not_compiled="not compiled: inductor writes C++ for its attention that does not compile (torch 2.13)",
    ),
    "LTXVideoTransformer3DModel": Case(
        _HEADS
        | {
            "in_channels": 8,
            "out_channels": 8,
            "cross_attention_dim": 32,
            "num_layers": 2,
            "caption_channels": 24,
        },
        _TEXT
        | {
            "hidden_states": noise(1, 32, 8),
            "timestep": filled(500, 1),
            "encoder_attention_mask": filled(1, 1, 8),
            "num_frames": 2,
            "height": 4,
            "width": 4,
        },
    ),
    "LTX2VideoTransformer3DModel": Case(
        _LTX2,
        _TEXT
        | {
            "hidden_states": noise(1, 32, 8),
            "audio_hidden_states": noise(1, 6, 4),
            "audio_encoder_hidden_states": noise(1, 8, 24),
            "timestep": filled(500, 1),
            "encoder_attention_mask": filled(1, 1, 8),
            "audio_encoder_attention_mask": filled(1, 1, 8),
            "num_frames": 2,
            "height": 4,
            "width": 4,
            "audio_num_frames": 6,
        },
    ),
    "SanaWMLTX2RefinerTransformer3DModel": Case(
        _LTX2,
        _TEXT
        | {
            "hidden_states": noise(1, 32, 8),
            "timestep": filled(500, 1),
            "video_rotary_emb": (noise(1, 32, 32, dtype="float32"), noise(1, 32, 32, dtype="float32")),
            "encoder_attention_mask": filled(1, 1, 8),
        },
    ),
    "LatteTransformer3DModel": Case(
        _HEADS
        | {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "cross_attention_dim": 32,
            "attention_bias": True,
            "sample_size": 8,
            "patch_size": 2,
            "activation_fn": "gelu-approximate",
            "num_embeds_ada_norm": 10,
            "norm_type": "ada_norm_single",
            "norm_elementwise_affine": False,
            "caption_channels": 24,
            "video_length": 2,
        },
        _TEXT | {"hidden_states": noise(1, 4, 2, 8, 8), "timestep": filled(500, 1)},
    ),
    "MiniMaxH3Transformer3DModel": Case(
        _HEADS
        | {
            "hidden_size": 24,
            "num_layers": 2,
            "ffn_dim": 64,
            "in_channels": 4,
            "audio_in_channels": 6,
            "text_dim": 24,
            "freq_dim": 8,
            "time_embed_hidden_dim": 24,
            "time_embed_dim": 16,
            "rope_freq_dim": 2,
        },
        _TEXT | _PACKED | {"hidden_states": noise(1, 16, 16), "audio_hidden_states": noise(1, 6, 6)},
    ),
    "MochiTransformer3DModel": Case(
        _HEADS
        | {
            "num_layers": 3,
            "pooled_projection_dim": 16,
            "in_channels": 4,
            "text_embed_dim": 24,
            "time_embed_dim": 8,
            "max_sequence_length": 8,
        },
        _TEXT
        | {
            "hidden_states": noise(1, 4, 2, 8, 8),
            "timestep": filled(500.0, 1),
            "encoder_attention_mask": filled(True, 1, 8),
        },
    ),
    "MotifVideoTransformer3DModel": Case(
        _HEADS
        | {
            "in_channels": 9,
            "out_channels": 4,
            "num_layers": 2,
            "num_single_layers": 4,
            "num_decoder_layers": 2,
            "text_embed_dim": 24,
            "rope_axes_dim": (4, 6, 6),
        },
        _TEXT
        | {
            "hidden_states": noise(1, 9, 2, 8, 8),
            "timestep": filled(500.0, 1),
            "encoder_attention_mask": filled(1, 1, 8),
        },
    ),
}
