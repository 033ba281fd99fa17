"""Image transformers that attend over text and image together, other than FLUX's relatives."""

from breadth.case import Case, Values, filled, noise

_HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}

CASES = {
    "AuraFlowTransformer2DModel": Case(
        _HEADS
        | {
            "sample_size": 8,
            "num_mmdit_layers": 2,
            "num_single_dit_layers": 2,
            "joint_attention_dim": 24,
            "caption_projection_dim": 32,
            "pos_embed_max_size": 16,
        },
        {
            "hidden_states": noise(1, 4, 8, 8),
            "encoder_hidden_states": noise(1, 8, 24),
            "timestep": filled(0.5, 1),
        },
    ),
    "ErnieImageTransformer2DModel": Case(
        {
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_layers": 2,
            "ffn_hidden_size": 64,
            "in_channels": 8,
            "out_channels": 8,
            "text_in_dim": 24,
            "rope_axes_dim": (4, 6, 6),
        },
        {
            "hidden_states": noise(1, 8, 4, 4),
            "timestep": filled(500.0, 1),
            "text_bth": noise(1, 8, 24),
            "text_lens": Values([8]),
        },
    ),
    "HiDreamImageTransformer2DModel": Case(
        _HEADS
        | {
            "patch_size": 2,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "caption_channels": [24, 20],
            "text_emb_dim": 20,
            "num_routed_experts": 2,
            "num_activated_experts": 1,
            "axes_dims_rope": (8, 4, 4),
            "max_resolution": (8, 8),
            "llama_layers": [0, 1, 1, 0],
            "force_inference_output": True,
        },
        {
            "hidden_states": noise(1, 4, 8, 8),
            "timesteps": filled(500, 1),
            "encoder_hidden_states_t5": noise(1, 8, 24),
            "encoder_hidden_states_llama3": noise(2, 1, 8, 20),
            "pooled_embeds": noise(1, 20),
        },
        not_compiled="not compiled: its blocks sort tokens by expert in NumPy",
    ),
    "HunyuanImageTransformer2DModel": Case(
        _HEADS
        | {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "num_refiner_layers": 2,
            "text_embed_dim": 24,
            "text_embed_2_dim": 20,
            "rope_axes_dim": (8, 8),
        },
        {
            "hidden_states": noise(1, 4, 4, 4),
            "timestep": filled(500.0, 1),
            "encoder_hidden_states": noise(1, 8, 24),
            "encoder_attention_mask": Values([[1] * 6 + [0] * 2]),
            "encoder_hidden_states_2": noise(1, 4, 20),
            "encoder_attention_mask_2": Values([[1] * 3 + [0]]),
        },
    ),
    "Lumina2Transformer2DModel": Case(
        {
            "sample_size": 8,
            "in_channels": 4,
            "hidden_size": 32,
            "num_layers": 2,
            "num_attention_heads": 2,
            "num_kv_heads": 1,
            "multiple_of": 16,
            "axes_dim_rope": (4, 6, 6),
            "axes_lens": (32, 16, 16),
            "cap_feat_dim": 24,
        },
        {
            "hidden_states": noise(1, 4, 8, 8),
            "timestep": filled(0.5, 1),
            "encoder_hidden_states": noise(1, 8, 24),
            "encoder_attention_mask": filled(True, 1, 8),
        },
    ),
    "NucleusMoEImageTransformer2DModel": Case(
        _HEADS
        | {
            "in_channels": 8,
            "out_channels": 2,
            "num_layers": 4,
            "num_key_value_heads": 1,
            "joint_attention_dim": 24,
            "axes_dims_rope": (4, 6, 6),
            "mlp_ratio": 8.0,
            "dense_moe_strategy": "leave_first_block_dense",
            "num_experts": 4,
            "moe_intermediate_dim": 32,
            "capacity_factors": 2.0,
        },
        {
            "hidden_states": noise(1, 16, 8),
            "img_shapes": [(1, 4, 4)],
            "encoder_hidden_states": noise(1, 8, 24),
            "encoder_hidden_states_mask": filled(True, 1, 8),
            "timestep": filled(0.5, 1),
        },
    ),
    "OmniGenTransformer2DModel": Case(
        {
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
            "num_layers": 2,
            "pad_token_id": 0,
            "vocab_size": 64,
            "max_position_embeddings": 64,
            "original_max_position_embeddings": 32,
            "rope_scaling": {"short_factor": [1.0] * 8, "long_factor": [1.0] * 8},
            "pos_embed_max_size": 8,
            "time_step_dim": 32,
        },
        {
            "hidden_states": noise(1, 4, 8, 8),
            "timestep": filled(0.5, 1),
            "input_ids": Values([list(range(8))]),
            "input_img_latents": [],
            "input_image_sizes": {},
            "attention_mask": filled(1, 1, 25, 25),
            "position_ids": Values([list(range(25))]),
        },
    ),
    "PRXTransformer2DModel": Case(
        {
            "in_channels": 4,
            "context_in_dim": 24,
            "hidden_size": 32,
            "mlp_ratio": 2.0,
            "num_heads": 2,
            "depth": 2,
            "axes_dim": [8, 8],
        },
        {
            "hidden_states": noise(1, 4, 8, 8),
            "timestep": filled(0.5, 1),
            "encoder_hidden_states": noise(1, 8, 24),
            "attention_mask": filled(True, 1, 8),
        },
    ),
    "QwenImageTransformer2DModel": Case(
        _HEADS
        | {
            "in_channels": 8,
            "out_channels": 2,
            "num_layers": 2,
            "joint_attention_dim": 24,
            "axes_dims_rope": (4, 6, 6),
        },
        {
            "hidden_states": noise(1, 16, 8),
            "encoder_hidden_states": noise(1, 8, 24),
            "encoder_hidden_states_mask": filled(1, 1, 8),
            "timestep": filled(0.5, 1),
            "img_shapes": [[(1, 4, 4)]],
        },
    ),
    "QwenImage21Transformer2DModel": Case(
        _HEADS
        | {"in_channels": 8, "out_channels": 8, "num_layers": 2, "context_in_dim": 24, "axes_dims_rope": (4, 6, 6)},
        {
            "hidden_states": noise(1, 16, 8),
            "encoder_hidden_states": noise(1, 8, 24),
            "timestep": filled(0.5, 1),
            "img_shapes": [[(1, 4, 4)]],
            "img_mask": Values([[False] * 8 + [True] * 4]),
        },
    ),
    "SD3Transformer2DModel": Case(
        _HEADS
        | {
            "sample_size": 8,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 3,
            "joint_attention_dim": 24,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 20,
            "pos_embed_max_size": 8,
            "dual_attention_layers": (0,),
            "qk_norm": "rms_norm",
        },
        {
            "hidden_states": noise(1, 4, 8, 8),
            "encoder_hidden_states": noise(1, 8, 24),
            "pooled_projections": noise(1, 20),
            "timestep": filled(500, 1),
        },
    ),
    "ZImageTransformer2DModel": Case(
        {
            "in_channels": 4,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 24,
            "axes_dims": [4, 6, 6],
            "axes_lens": [128, 32, 32],
        },
        {"x": [noise(4, 1, 8, 8)], "t": filled(0.5, 1), "cap_feats": [noise(8, 24)]},
    ),
    "JoyImageEditTransformer3DModel": Case(
        {
            "in_channels": 4,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "text_dim": 24,
            "num_layers": 2,
            "rope_dim_list": [4, 6, 6],
        },
        {
            "hidden_states": noise(1, 2, 4, 1, 8, 8),
            "timestep": filled(500.0, 1),
            "encoder_hidden_states": noise(1, 8, 24),
        },
    ),
    "JoyImageEditPlusTransformer3DModel": Case(
        {
            "in_channels": 4,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "text_dim": 24,
            "num_layers": 2,
            "rope_dim_list": [4, 6, 6],
        },
        {
            "hidden_states": noise(1, 32, 4, 1, 2, 2),
            "timestep": filled(500.0, 1),
            "encoder_hidden_states": noise(1, 8, 24),
            "encoder_hidden_states_mask": filled(1.0, 1, 8),
            "shape_list": [[(1, 4, 4), (1, 4, 4)]],
        },
    ),
}
