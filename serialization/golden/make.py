"""Make the golden artifacts of this folder anew.

    python serialization/golden/make.py [OUT]

The model is a FluxPipeline a few layers deep with seeded random weights: the smallest that has every kind of tensor the
format knows. Artifacts are bound to no machine, since they hold no packages.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import diffusers
import tokenizers
import torch
import transformers
import yaml
from torch import nn

import qcompile
from qcompile import recipe as recipes

HERE = Path(__file__).parent
DIGESTS = "digests.json"
PIXELS = 32
WIDTH = 16
"""Features of every layer: the least that float8 takes."""
WORDS = ("a", "red", "blue", "circle", "square", "on", "background")
CALL = {"prompt": "a red circle", "num_inference_steps": 2, "guidance_scale": 3.0, "max_sequence_length": 8}
REWRITES = [{"channels_last": {"component": "vae"}}]
# Its embedding has two names: a tied tensor.
TEXT_ENCODER = {
    "quantize": {
        "component": "text_encoder_2",
        "scheme": "int8_weight_only",
        "layers": {"include": ["encoder.block.**"]},
    }
}
PIPELINES = {"pipeline-int8_dynamic": "int8_dynamic", "pipeline-float8_weight_only": "float8_weight_only"}
# Weights of qcompile's own classes, all three of them.
OWN = [
    {
        "quantize": {
            "component": "transformer",
            "scheme": "quanto_int4",
            "group_size": 32,
            "layers": {"include": ["transformer_blocks.*.ff*.net.2"]},
        }
    },
    {
        "quantize": {
            "component": "transformer",
            "scheme": "float8_static",
            "layers": {"include": ["single_transformer_blocks.*.proj_*"]},
        }
    },
]
MODELS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "model-int8_weight_only": ("int8_weight_only", []),
    "model-own_classes": ("quanto_int8", OWN),
}


def make(out: Path) -> None:
    """Write every golden artifact and `digests.json` to `out`."""
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "flux-tiny")
        write_model(model)
        for name, scheme in PIPELINES.items():
            recipe = recipe_of(name, scheme, REWRITES, [TEXT_ENCODER], [{"height": PIXELS, "width": PIXELS}])
            # What is kept names no folder of the machine it was made on.
            pipeline = diffusers.DiffusionPipeline.from_pretrained(model, dtype=torch.bfloat16)
            qcompile.apply(recipe, pipeline=pipeline, out=out / name, device="cpu", overwrite=True)
            digests[name] = weight_digests(qcompile.load(out / name, device="cpu"))
        for name, (scheme, before) in MODELS.items():
            transformer = diffusers.FluxTransformer2DModel.from_pretrained(model / "transformer", dtype=torch.bfloat16)
            inputs = [example_inputs()]
            recipe = recipe_of(name, scheme, before, [], [])
            qcompile.apply(
                recipe, model=transformer, example_inputs=inputs, out=out / name, device="cpu", overwrite=True
            )
            digests[name] = weight_digests(qcompile.load(out / name, device="cpu"))
    (out / DIGESTS).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def recipe_of(
    name: str, scheme: str, before: list[dict[str, Any]], after: list[dict[str, Any]], shapes: list[dict[str, int]]
) -> recipes.Recipe:
    """The recipe of one golden artifact."""
    data = {
        "name": name,
        "version": 1,
        "model": {"id": "flux-tiny", "dtype": "bfloat16"},
        "call": CALL if shapes else {},
        "shapes": shapes,
        "steps": [
            {"fuse_qkv": {"component": "transformer"}},
            *before,
            {"quantize": {"component": "transformer", "scheme": scheme}},
            *after,
        ],
    }
    return recipes.parse(yaml.safe_dump(data, sort_keys=False), f"{name}.yaml")


def example_inputs() -> dict[str, Any]:
    """One call of the bare transformer: latents [1, 16, 16], text [1, 8, 16]."""
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).bfloat16()

    return {
        "hidden_states": noise(1, 16, 16),
        "encoder_hidden_states": noise(1, 8, WIDTH),
        "pooled_projections": noise(1, WIDTH),
        "timestep": torch.tensor([0.5]).bfloat16(),
        "guidance": torch.tensor([3.0]),
        "img_ids": torch.zeros(16, 3).bfloat16(),
        "txt_ids": torch.zeros(8, 3).bfloat16(),
    }


def weight_digests(loaded: Any) -> dict[str, str]:
    """sha256 of all tensors of each component: names, dtypes, shapes, and values with quantized ones taken back."""
    parts = {"model": loaded} if isinstance(loaded, nn.Module) else loaded.components
    return {name: _digest(part) for name, part in parts.items() if isinstance(part, nn.Module)}


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        plain = tensor.dequantize() if hasattr(tensor, "qdata") else tensor
        digest.update(
            f"{name} {type(tensor).__name__} {plain.dtype} {list(plain.shape)} {list(plain.stride())}\n".encode()
        )
        digest.update(
            plain.contiguous().view(torch.uint8).numpy().tobytes() if plain.dim() else repr(plain.item()).encode()
        )
    return digest.hexdigest()


def write_model(folder: Path) -> None:
    """Write the pipeline that the golden artifacts are made from, in diffusers format."""
    torch.manual_seed(0)
    text = {"vocab_size": 4 + len(WORDS), "pad_token_id": 0, "eos_token_id": 1}
    clip = transformers.CLIPTextConfig(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=8,
        projection_dim=WIDTH,
        bos_token_id=3,
        **text,
    )
    t5 = transformers.T5Config(
        d_model=WIDTH, d_kv=WIDTH, d_ff=WIDTH, num_layers=1, num_heads=1, use_cache=False, **text
    )
    pipeline = diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=WIDTH,
            num_attention_heads=1,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
            patch_size=1,
        ),
        vae=diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=1.0,
            shift_factor=0.0,
        ),
        text_encoder=transformers.CLIPTextModel(clip),
        text_encoder_2=transformers.T5EncoderModel(t5),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )
    pipeline.to(torch.bfloat16).save_pretrained(folder)


def _tokenizer() -> Any:
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    vocabulary = {word: number for number, word in enumerate((*special.values(), *WORDS))}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=model, model_max_length=8, **special)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
