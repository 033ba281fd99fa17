"""Denoisers of molecules."""

from breadth.case import Case, filled, noise

_TIMES = ("time_emb_bb_ca", "time_emb_local_latents")

CASES = {
    "RFD4ProteinaTransformer": Case(
        {
            "nlayers": 4,
            "token_dim": 32,
            "nheads": 2,
            "dim_cond": 16,
            "pair_repr_dim": 24,
            "latent_dim": 8,
            "t_emb_dim": 16,
            "xt_pair_dist_dim": 10,
            "feats_seq": ("xt_bb_ca", "xt_local_latents"),
            "feats_cond_seq": _TIMES,
            "feats_pair_repr": ("xt_bb_ca_pair_dists",),
            "feats_pair_cond": _TIMES,
            "tri_mult_c": 16,
            "num_sequence_classes": 12,
        },
        {
            "bb_ca": noise(1, 20, 3),
            "local_latents": noise(1, 20, 8),
            "bb_ca_time": filled(0.5, 1),
            "local_latents_time": filled(0.5, 1),
            "padding_mask": filled(True, 1, 20),
            "conditioning": {
                "is_in_context_conditioning": filled(False, 1, 20),
                "supports_local_latent": filled(True, 1, 20),
            },
        },
    ),
}
