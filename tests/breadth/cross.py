"""Transformers that read the text by cross-attention or not at all."""

from breadth.case import Case, Values, filled, noise

_HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}
_PATCHES = {"in_channels": 4, "num_layers": 2, "sample_size": 8, "patch_size": 2}
_IMAGE = {"hidden_states": noise(1, 4, 8, 8)}
_TEXT = {"encoder_hidden_states": noise(1, 8, 24)}

CASES = {
    "DiTTransformer2DModel": Case(
        _HEADS | _PATCHES | {"num_embeds_ada_norm": 10},
        _IMAGE | {"timestep": filled(500, 1), "class_labels": Values([3])},
    ),
    "PixArtTransformer2DModel": Case(
        _HEADS | _PATCHES | {"cross_attention_dim": 32, "caption_channels": 24, "use_additional_conditions": False},
        _IMAGE | _TEXT | {"timestep": filled(500, 1), "encoder_attention_mask": filled(1, 1, 8)},
    ),
    "SanaTransformer2DModel": Case(
        _HEADS
        | {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 16,
            "cross_attention_dim": 32,
            "caption_channels": 24,
            "sample_size": 8,
        },
        _IMAGE | _TEXT | {"timestep": filled(500, 1), "encoder_attention_mask": filled(1, 1, 8)},
    ),
    "HunyuanDiT2DModel": Case(
        _HEADS
        | {
            "in_channels": 4,
            "patch_size": 2,
            "sample_size": 8,
            "hidden_size": 32,
            "num_layers": 4,
            "cross_attention_dim": 24,
            "cross_attention_dim_t5": 32,
            "pooled_projection_dim": 16,
            "text_len": 8,
            "text_len_t5": 8,
            "use_style_cond_and_image_meta_size": True,
        },
        _IMAGE
        | _TEXT
        | {
            "timestep": filled(500.0, 1),
            "text_embedding_mask": filled(1, 1, 8),
            "encoder_hidden_states_t5": noise(1, 8, 32),
            "text_embedding_mask_t5": filled(1, 1, 8),
            "image_meta_size": filled(8.0, 1, 6),
            "style": filled(0, 1),
            "image_rotary_emb": [noise(16, 16, dtype="float32"), noise(16, 16, dtype="float32")],
        },
    ),
    "LuminaNextDiT2DModel": Case(
        {
            "sample_size": 8,
            "hidden_size": 32,
            "num_layers": 2,
            "num_attention_heads": 2,
            "num_kv_heads": 2,
            "multiple_of": 16,
            "cross_attention_dim": 24,
        },
        _IMAGE
        | _TEXT
        | {
            "timestep": filled(0.5, 1),
            "encoder_mask": filled(1, 1, 8),
            "image_rotary_emb": noise(8, 8, 8, dtype="complex64"),
            "cross_attention_kwargs": {},
        },
    ),
    "Transformer2DModel": Case(
        _HEADS | {"in_channels": 32, "num_layers": 2, "norm_num_groups": 8, "cross_attention_dim": 24},
        _TEXT | {"hidden_states": noise(1, 32, 4, 4)},
    ),
    "DreamLiteTransformer2DModel": Case(
        _HEADS
        | {
            "in_channels": 32,
            "num_layers": 2,
            "norm_num_groups": 8,
            "cross_attention_dim": 24,
            "use_linear_projection": True,
            "qk_norm": "rms_norm",
        },
        _TEXT | {"hidden_states": noise(1, 32, 4, 4)},
    ),
    "TransformerTemporalModel": Case(
        _HEADS | {"in_channels": 32, "num_layers": 2, "norm_num_groups": 8},
        {"hidden_states": noise(4, 32, 4, 4), "num_frames": 4},
    ),
    "PriorTransformer": Case(
        _HEADS | {"num_layers": 2, "embedding_dim": 24, "num_embeddings": 8, "additional_embeddings": 4},
        {
            "hidden_states": noise(1, 24),
            "timestep": filled(500, 1),
            "proj_embedding": noise(1, 24),
            "encoder_hidden_states": noise(1, 8, 24),
            "attention_mask": filled(True, 1, 8),
        },
    ),
    "UVit2DModel": Case(
        {
            "hidden_size": 32,
            "cond_embed_dim": 16,
            "micro_cond_encode_dim": 8,
            "micro_cond_embed_dim": 40,
            "encoder_hidden_size": 24,
            "vocab_size": 40,
            "codebook_size": 32,
            "in_channels": 32,
            "block_out_channels": 32,
            "num_res_blocks": 1,
            "block_num_heads": 2,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "sample_size": 4,
        },
        {
            "input_ids": Values([[list(range(row, row + 4)) for row in range(4)]]),
            "encoder_hidden_states": noise(1, 8, 24),
            "pooled_text_emb": noise(1, 16),
            "micro_conds": filled(4.0, 1, 5),
        },
    ),
}
