"""FLUX and the classes that follow its double and single blocks."""

from breadth.case import Case, Positions, Values, filled, noise

_IDS = {"img_ids": Positions((1, 4, 4)), "txt_ids": filled(0.0, 8, 3, dtype="float32")}
_IMAGE_AND_TEXT = {"hidden_states": noise(1, 16, 8), "encoder_hidden_states": noise(1, 8, 24)}
_SIZES = {"in_channels": 8, "num_attention_heads": 2, "attention_head_dim": 16}
_TWO_KINDS = {"num_layers": 2, "num_single_layers": 2, "joint_attention_dim": 24}

CASES = {
    "FluxTransformer2DModel": Case(
        _SIZES | _TWO_KINDS | {"pooled_projection_dim": 20, "guidance_embeds": True, "axes_dims_rope": (4, 6, 6)},
        _IMAGE_AND_TEXT
        | _IDS
        | {"pooled_projections": noise(1, 20), "timestep": filled(0.5, 1), "guidance": filled(3.5, 1)},
    ),
    "Flux2Transformer2DModel": Case(
        _SIZES | _TWO_KINDS | {"timestep_guidance_channels": 32, "axes_dims_rope": (4, 4, 4, 4)},
        _IMAGE_AND_TEXT
        | {
            "timestep": filled(0.5, 1),
            "guidance": filled(3.5, 1),
            "img_ids": Positions((1, 4, 4, 1)),
            "txt_ids": Positions((1, 1, 1, 8)),
        },
    ),
    "Flux3Transformer2DModel": Case(
        _SIZES | _TWO_KINDS | {"cond_in_channels": 8, "timestep_channels": 32, "axes_dims_rope": (4, 4, 4, 4)},
        _IMAGE_AND_TEXT
        | {
            "timestep": filled(0.5, 1),
            "img_ids": Positions((1, 4, 4, 1)),
            "txt_ids": Positions((1, 1, 1, 8)),
            "image_cond_hidden_states": noise(1, 4, 8),
            "image_cond_ids": Positions((1, 2, 2, 1)),
        },
    ),
    "ChromaTransformer2DModel": Case(
        _SIZES
        | _TWO_KINDS
        | {
            "axes_dims_rope": (4, 6, 6),
            "approximator_num_channels": 16,
            "approximator_hidden_dim": 32,
            "approximator_layers": 2,
        },
        _IMAGE_AND_TEXT | _IDS | {"timestep": filled(0.5, 1), "attention_mask": filled(True, 1, 24)},
    ),
    "BriaTransformer2DModel": Case(
        _SIZES | _TWO_KINDS | {"axes_dims_rope": [4, 6, 6]},
        _IMAGE_AND_TEXT | _IDS | {"timestep": filled(500.0, 1)},
    ),
    "BriaFiboTransformer2DModel": Case(
        _SIZES | _TWO_KINDS | {"axes_dims_rope": [4, 6, 6], "text_encoder_dim": 24},
        _IMAGE_AND_TEXT | _IDS | {"timestep": filled(500.0, 1), "text_encoder_layers": [noise(1, 8, 24)] * 4},
    ),
    "BriaFibo2Transformer2DModel": Case(
        {
            "in_channels": 4,
            "dim": 32,
            "n_layers": 3,
            "n_refiner_layers": 2,
            "n_heads": 2,
            "cap_feat_dim": 24,
            "injection_layer_ids": (0, 2),
            "perceiver_num_layers": 2,
            "min_num_gist_tokens": 4,
            "max_num_gist_tokens": 8,
            "gist_step": 4,
            "gist_min_text_len": 4,
            "gist_max_text_len": 16,
            "axes_dims": (4, 6, 6),
            "axes_lens": (32, 16, 16),
        },
        {
            "hidden_states": noise(1, 4, 8, 8),
            "timestep": filled(0.5, 1),
            "encoder_hidden_states": noise(1, 3, 8, 24),
            "encoder_attention_mask": filled(True, 1, 8),
        },
    ),
    "LongCatImageTransformer2DModel": Case(
        _SIZES | _TWO_KINDS | {"pooled_projection_dim": 24, "axes_dims_rope": [4, 6, 6]},
        _IMAGE_AND_TEXT | _IDS | {"timestep": filled(0.5, 1)},
    ),
    "OvisImageTransformer2DModel": Case(
        _SIZES | _TWO_KINDS | {"out_channels": 8, "axes_dims_rope": (4, 6, 6)},
        _IMAGE_AND_TEXT | _IDS | {"timestep": filled(0.5, 1)},
    ),
    "Krea2Transformer2DModel": Case(
        {
            "in_channels": 8,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 64,
            "timestep_embed_dim": 32,
            "text_hidden_dim": 32,
            "num_text_layers": 3,
            "text_num_attention_heads": 2,
            "text_num_key_value_heads": 2,
            "text_intermediate_size": 64,
            "axes_dims_rope": (4, 6, 6),
        },
        {
            "hidden_states": noise(1, 16, 8),
            "encoder_hidden_states": noise(1, 8, 3, 32),
            "timestep": filled(0.5, 1),
            "position_ids": Positions((1, 4, 6)),
            "encoder_attention_mask": filled(True, 1, 8),
        },
    ),
    "Ideogram4Transformer2DModel": Case(
        {
            "in_channels": 8,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "adaln_dim": 32,
            "llm_features_dim": 24,
            "mrope_section": (4, 2, 2),
        },
        {
            "hidden_states": noise(1, 24, 8),
            "timestep": filled(0.5, 1),
            "encoder_hidden_states": noise(1, 24, 24),
            "position_ids": Values([[[i, i // 4, i % 4] for i in range(24)]]),
            "segment_ids": filled(1, 1, 24),
            "indicator": Values([[3] * 8 + [2] * 16]),
        },
    ),
}
