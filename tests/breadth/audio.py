"""Transformers over sound."""

from breadth.case import Case, filled, noise

CASES = {
    "AceStepTransformer1DModel": Case(
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "in_channels": 24,
            "audio_acoustic_hidden_dim": 8,
            "sliding_window": 4,
            "encoder_hidden_size": 24,
        },
        {
            "hidden_states": noise(1, 16, 8),
            "timestep": filled(0.5, 1),
            "timestep_r": filled(0.25, 1),
            "encoder_hidden_states": noise(1, 8, 24),
            "context_latents": noise(1, 16, 16),
        },
    ),
    "LongCatAudioDiTTransformer": Case(
        {"dit_dim": 32, "dit_depth": 2, "dit_heads": 2, "dit_text_dim": 24, "latent_dim": 8},
        {
            "hidden_states": noise(1, 16, 8),
            "encoder_hidden_states": noise(1, 8, 24),
            "encoder_attention_mask": filled(True, 1, 8),
            "timestep": filled(0.5, 1),
            "attention_mask": filled(True, 1, 16),
            "latent_cond": noise(1, 16, 8),
        },
    ),
    "MiniMaxMusic3Transformer1DModel": Case(
        {
            "in_channels": 4,
            "condition_dim": 24,
            "num_layers": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "ff_inner_dim": 64,
            "rotary_dim": 8,
            "fourier_embedding_dim": 8,
        },
        {"hidden_states": noise(1, 4, 16), "timestep": filled(0.5, 1), "encoder_hidden_states": noise(1, 16, 24)},
    ),
    "StableAudioDiTModel": Case(
        {
            "sample_size": 16,
            "in_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "num_key_value_attention_heads": 1,
            "out_channels": 4,
            "cross_attention_dim": 24,
            "time_proj_dim": 8,
            "global_states_input_dim": 16,
            "cross_attention_input_dim": 24,
        },
        {
            "hidden_states": noise(1, 4, 16),
            "timestep": filled(0.5, 1),
            "encoder_hidden_states": noise(1, 8, 24),
            "global_hidden_states": noise(1, 1, 16),
            "rotary_embedding": (noise(17, 8, dtype="float32"), noise(17, 8, dtype="float32")),
        },
    ),
    "StableAudio3DiTModel": Case(
        {
            "io_channels": 4,
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 2,
            "cond_token_dim": 24,
            "global_cond_dim": 16,
            "local_add_cond_dim": 5,
            "timestep_features_dim": 8,
            "ff_mult": 2.0,
            "num_memory_tokens": 4,
        },
        {
            "hidden_states": noise(1, 4, 16),
            "timestep": filled(0.5, 1),
            "encoder_hidden_states": noise(1, 8, 24),
            "global_hidden_states": noise(1, 16),
            "encoder_attention_mask": filled(1, 1, 8),
            "local_add_cond": noise(1, 5, 16),
        },
    ),
    "T5FilmDecoder": Case(
        {"input_dims": 8, "targets_length": 16, "d_model": 32, "num_layers": 2, "num_heads": 2, "d_kv": 16, "d_ff": 64},
        {
            "encodings_and_masks": [(noise(1, 8, 32), filled(1.0, 1, 8))],
            "decoder_input_tokens": noise(1, 16, 8),
            "decoder_noise_time": filled(0.5, 1),
        },
    ),
}
