"""Video transformers that are not Wan's relatives."""

from breadth.case import Case, Values, filled, noise

_HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}
_TEXT = {"encoder_hidden_states": noise(1, 8, 24)}
_HUNYUAN = _HEADS | {
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "num_refiner_layers": 2,
    "text_embed_dim": 24,
    "rope_axes_dim": (4, 6, 6),
}
_COGVIDEO = _HEADS | {
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 24,
    "num_layers": 2,
    "sample_width": 8,
    "sample_height": 8,
    "sample_frames": 5,
    "max_text_seq_length": 8,
    "use_rotary_positional_embeddings": True,
}
_COGVIDEO_INPUTS = _TEXT | {
    "hidden_states": noise(1, 2, 4, 8, 8),
    "timestep": filled(500, 1),
    "image_rotary_emb": (noise(32, 16, dtype="float32"), noise(32, 16, dtype="float32")),
}

CASES = {
    "AllegroTransformer3DModel": Case(
        _HEADS
        | {
            "num_layers": 2,
            "attention_head_dim": 24,
            "cross_attention_dim": 48,
            "sample_height": 8,
            "sample_width": 8,
            "sample_frames": 2,
            "caption_channels": 24,
        },
        _TEXT
        | {
            "hidden_states": noise(1, 4, 2, 8, 8),
            "timestep": filled(500, 1),
            "attention_mask": filled(1, 1, 2, 8, 8),
            "encoder_attention_mask": filled(1, 1, 8),
            "image_rotary_emb": (
                ((noise(4, 8, dtype="float32"), noise(4, 8, dtype="float32")),) * 3,
                (
                    Values([[frame for frame in range(2) for _ in range(16)]]),
                    Values([[row for _ in range(2) for row in range(4) for _ in range(4)]]),
                    Values([[column for _ in range(8) for column in range(4)]]),
                ),
            ),
        },
    ),
    "CogVideoXTransformer3DModel": Case(_COGVIDEO, _COGVIDEO_INPUTS),
    "ConsisIDTransformer3DModel": Case(
        _COGVIDEO
        | {
            "num_attention_heads": 3,
            "is_train_face": True,
            "cross_attn_dim_head": 8,
            "cross_attn_num_heads": 2,
            "LFE_id_dim": 4,
            "LFE_vit_dim": 24,
            "LFE_depth": 5,
            "LFE_dim_head": 8,
            "LFE_num_heads": 2,
            "LFE_num_id_token": 1,
            "LFE_num_querie": 2,
            "LFE_output_dim": 32,
            "LFE_ff_mult": 2,
        },
        _COGVIDEO_INPUTS | {"id_cond": noise(1, 4), "id_vit_hidden": [noise(1, 4, 24)] * 5},
    ),
    "CosmosTransformer3DModel": Case(
        _HEADS
        | {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "mlp_ratio": 2.0,
            "text_embed_dim": 24,
            "adaln_lora_dim": 8,
            "max_size": (4, 8, 8),
            "concat_padding_mask": False,
        },
        _TEXT
        | {
            "hidden_states": noise(1, 4, 2, 8, 8),
            "timestep": filled(0.5, 1),
            "fps": 16,
        },
    ),
    "Cosmos3OmniTransformer": Case(
        {
            "head_dim": 16,
            "hidden_size": 32,
            "intermediate_size": 64,
            "latent_channel": 4,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "patch_latent_dim": 16,
            "rope_axes_dim": [4, 2, 2],
            "vocab_size": 32,
        },
        {
            "input_ids": Values([1, 2, 3, 4]),
            "text_indexes": Values([0, 1, 2, 3]),
            "position_ids": Values([[*range(20)]] * 3),
            "und_len": 4,
            "sequence_length": 20,
            "vision_tokens": [noise(1, 4, 1, 8, 8)],
            "vision_token_shapes": [(1, 4, 4)],
            "vision_sequence_indexes": Values([*range(4, 20)]),
            "vision_mse_loss_indexes": Values([*range(4, 20)]),
            "vision_timesteps": filled(500.0, 16),
            "vision_noisy_frame_indexes": [Values([0])],
        },
    ),
    "EasyAnimateTransformer3DModel": Case(
        _HEADS
        | {
            "in_channels": 4,
            "out_channels": 4,
            "patch_size": 2,
            "sample_width": 8,
            "sample_height": 8,
            "num_layers": 2,
            "mmdit_layers": 2,
            "time_embed_dim": 16,
            "text_embed_dim": 24,
        },
        _TEXT | {"hidden_states": noise(1, 4, 2, 8, 8), "timestep": filled(500, 1)},
    ),
    "HunyuanVideoTransformer3DModel": Case(
        _HUNYUAN | {"num_single_layers": 2, "pooled_projection_dim": 20},
        _TEXT
        | {
            "hidden_states": noise(1, 4, 2, 8, 8),
            "timestep": filled(500, 1),
            "encoder_attention_mask": Values([[1] * 6 + [0] * 2]),
            "pooled_projections": noise(1, 20),
            "guidance": filled(6000.0, 1),
        },
    ),
    "HunyuanVideoFramepackTransformer3DModel": Case(
        _HUNYUAN
        | {
            "num_single_layers": 2,
            "pooled_projection_dim": 20,
            "has_image_proj": True,
            "image_proj_dim": 12,
            "has_clean_x_embedder": True,
        },
        _TEXT
        | {
            "hidden_states": noise(1, 4, 2, 8, 8),
            "timestep": filled(500, 1),
            "encoder_attention_mask": Values([[1] * 6 + [0] * 2]),
            "pooled_projections": noise(1, 20),
            "image_embeds": noise(1, 4, 12),
            "indices_latents": Values([8, 9]),
            "guidance": filled(6000.0, 1),
            "latents_clean": noise(1, 4, 2, 8, 8),
            "indices_latents_clean": Values([0, 10]),
            "latents_history_2x": noise(1, 4, 2, 8, 8),
            "indices_latents_history_2x": Values([6, 7]),
            "latents_history_4x": noise(1, 4, 4, 8, 8),
            "indices_latents_history_4x": Values([2, 3, 4, 5]),
        },
    ),
    "HunyuanVideo15Transformer3DModel": Case(
        _HUNYUAN | {"text_embed_2_dim": 20, "image_embed_dim": 12, "target_size": 64},
        _TEXT
        | {
            "hidden_states": noise(1, 4, 2, 4, 4),
            "timestep": filled(500.0, 1),
            "encoder_attention_mask": Values([[1] * 6 + [0] * 2]),
            "encoder_hidden_states_2": noise(1, 4, 20),
            "encoder_attention_mask_2": Values([[1] * 3 + [0]]),
            "image_embeds": noise(1, 4, 12),
        },
    ),
    "Kandinsky5Transformer3DModel": Case(
        {
            "in_text_dim": 24,
            "in_text_dim2": 20,
            "time_dim": 16,
            "model_dim": 32,
            "ff_dim": 64,
            "num_visual_blocks": 2,
            "axes_dims": (4, 6, 6),
        },
        _TEXT
        | {
            "hidden_states": noise(1, 2, 8, 8, 4),
            "timestep": filled(500.0, 1),
            "pooled_projections": noise(1, 20),
            "visual_rope_pos": [Values([*range(2)]), Values([*range(4)]), Values([*range(4)])],
            "text_rope_pos": Values([*range(8)]),
        },
    ),
}
