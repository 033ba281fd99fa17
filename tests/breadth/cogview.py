"""CogView and what follows its blocks."""

from breadth.case import Case, Values, filled, noise

_SIZES = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "text_embed_dim": 24,
    "time_embed_dim": 16,
    "condition_dim": 8,
}
_INPUTS = {
    "hidden_states": noise(1, 4, 8, 8),
    "encoder_hidden_states": noise(1, 8, 24),
    "timestep": filled(500, 1),
    "target_size": Values([[8.0, 8.0]]),
    "crop_coords": Values([[0.0, 0.0]]),
}

CASES = {
    "CogView3PlusTransformer2DModel": Case(
        _SIZES | {"pos_embed_max_size": 8, "sample_size": 8},
        _INPUTS | {"original_size": Values([[8.0, 8.0]])},
    ),
    "CogView4Transformer2DModel": Case(
        _SIZES | {"pos_embed_max_size": 8, "sample_size": 8, "rope_axes_dim": (8, 8)},
        _INPUTS | {"original_size": Values([[8.0, 8.0]])},
    ),
    "GlmImageTransformer2DModel": Case(
        _SIZES | {"prior_vq_quantizer_codebook_size": 32},
        _INPUTS | {"prior_token_id": Values([list(range(16))]), "prior_token_drop": filled(False, 1, 16)},
    ),
}
