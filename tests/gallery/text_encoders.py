"""Text encoders that several families share, at published size and shrunken."""

from gallery.family import Part
from gallery.tokenizer import BOS, EOS, PAD, VOCABULARY

WIDTH = 32
"""Features of a shrunken text encoder."""
_TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "eos_token_id": EOS}
_TINY_CLIP = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": WIDTH,
    "bos_token_id": BOS,
    **_TOKENS,
}
_TINY_T5 = {"d_kv": 16, "d_ff": WIDTH, "num_layers": 1, "num_heads": 2, **_TOKENS}
_T5 = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}


def clip_l(class_name: str = "CLIPTextModel") -> Part:
    """openai/clip-vit-large-patch14, as Stable Diffusion, SD3, FLUX.1 and HunyuanVideo carry it."""
    full = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
        "vocab_size": 49408,
        "hidden_act": "quick_gelu",
    }
    return Part(class_name, full, _TINY_CLIP, "transformers")


def clip_g() -> Part:
    """laion/CLIP-ViT-bigG-14, the second text encoder of SDXL and SD3."""
    full = {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "vocab_size": 49408,
        "hidden_act": "gelu",
    }
    return Part("CLIPTextModelWithProjection", full, _TINY_CLIP, "transformers")


def t5_xxl(tiny_width: int = WIDTH) -> Part:
    """google/t5-v1_1-xxl, encoder only: 4.76 B parameters."""
    return Part("T5EncoderModel", {**_T5, "vocab_size": 32128}, {**_TINY_T5, "d_model": tiny_width}, "transformers")


def umt5_xxl() -> Part:
    """google/umt5-xxl, encoder only: 5.68 B parameters."""
    return Part("UMT5EncoderModel", {**_T5, "vocab_size": 256384}, {**_TINY_T5, "d_model": WIDTH}, "transformers")


def pile_t5_xl() -> Part:
    """EleutherAI/pile-t5-xl, encoder only: 1.22 B parameters; AuraFlow's."""
    full = {**_T5, "d_model": 2048, "d_ff": 5120, "num_heads": 32, "vocab_size": 32128}
    return Part("UMT5EncoderModel", full, {**_TINY_T5, "d_model": WIDTH}, "transformers")


_TINY_DECODER = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "bos_token_id": BOS,
    **_TOKENS,
}


def llama_8b() -> Part:
    """xtuner/llava-llama-3-8b-v1_1-transformers, its language model: 7.50 B parameters; HunyuanVideo's."""
    full = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128320,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    }
    return Part("LlamaModel", full, _TINY_DECODER, "transformers")


def qwen_vl_7b() -> Part:
    """Qwen/Qwen2.5-VL-7B-Instruct: 8.29 B parameters with its vision tower; Qwen-Image's."""
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    full = {
        "text_config": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "max_position_embeddings": 128000,
            "rope_parameters": {**rope, "mrope_section": [16, 24, 24]},
        },
        "vision_config": {"hidden_size": 1280, "intermediate_size": 3420, "depth": 32, "out_hidden_size": 3584},
    }
    tiny = {
        "text_config": {**_TINY_DECODER, "rope_parameters": {**rope, "mrope_section": [2, 3, 3]}},
        "vision_config": {
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "depth": 1,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
        },
    }
    return Part("Qwen2_5_VLForConditionalGeneration", full, tiny, "transformers")


def mistral_small() -> Part:
    """mistralai/Mistral-Small-3.2-24B-Instruct-2506: 24.0 B parameters with its vision tower; FLUX.2's."""
    full = {
        "text_config": {
            "model_type": "mistral",
            "hidden_size": 5120,
            "intermediate_size": 32768,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 131072,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
        },
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 1540,
            "patch_size": 14,
        },
        "tie_word_embeddings": False,
    }
    tiny = {
        "text_config": {"model_type": "mistral", **_TINY_DECODER},
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
    }
    return Part("Mistral3ForConditionalGeneration", full, tiny, "transformers")
