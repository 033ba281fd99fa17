"""Files that lead diffusers and transformers out of the artifact, or to what is no part of it."""

import json
from pathlib import Path

from damage import COMPONENT, Damage, recorded, write

from qcompile.artifact.tensors import WEIGHTS

_ENCODER = "text_encoder"
_INDEX = f"{_ENCODER}/model.safetensors.index.json"


def shards(index: str, shard: object, *held: str) -> Damage:
    """A list of shards that names this one, and files beside it."""

    def damage(folder: Path) -> None:
        write(index, json.dumps({"metadata": {}, "weight_map": {"a.weight": shard}}) + "\n")(folder)
        for file in held:
            write(file, "read by a loader that follows the list\n")(folder)

    return recorded(damage)


def setting(file: str, **settings: object) -> Damage:
    """A configuration with these settings."""
    return recorded(write(file, json.dumps(settings) + "\n"))


_KERNEL = "someone/attention"
_ENCODER_CONFIG = f"{_ENCODER}/config.json"

LEADS: dict[str, tuple[str, str, Damage]] = {
    "shard-absolute": ("escaping_path", "a shard `/etc/model.safetensors`", shards(_INDEX, "/etc/model.safetensors")),
    "shard-parent": ("escaping_path", "a shard outside of the artifact", shards(_INDEX, "../../model.safetensors")),
    "shard-component": (
        "escaping_path",
        "a shard that is another component's",
        shards(_INDEX, f"../{COMPONENT}/{WEIGHTS}.safetensors"),
    ),
    "shard-missing": ("escaping_path", "a shard that is not there", shards(_INDEX, "model.safetensors")),
    "shard-no-text": ("escaping_path", "a shard that is a number", shards(_INDEX, 1)),
    "shard-pickled": (
        "foreign_code",
        "a shard of pickled data, which would be unpickled",
        shards(_INDEX, "weights.bin", f"{_ENCODER}/weights.bin"),
    ),
    "index-pickled": (
        "foreign_code",
        "a list of shards of pickled data",
        shards(f"{_ENCODER}/pytorch_model.bin.index.json", "a.safetensors", f"{_ENCODER}/a.safetensors"),
    ),
    "index-empty": ("foreign_code", "a list of shards that names none", recorded(write(_INDEX, "[]\n"))),
    "adapter": (
        "foreign_code",
        "an adapter, which names a base model elsewhere",
        recorded(write(f"{_ENCODER}/adapter_config.json", '{"base_model_name_or_path": "someone/else"}\n')),
    ),
    "code": (
        "foreign_code",
        "a module beside a configuration",
        recorded(write(f"{_ENCODER}/model.py", '"""Code that no reader runs."""\n')),
    ),
    "pipeline-inside": (
        "foreign_code",
        "a pipeline inside of a component, whose libraries would be imported",
        recorded(write("vae/model_index.json", '{"_class_name": "FluxPipeline", "vae": ["subprocess", "Popen"]}\n')),
    ),
    "setting-kernel": (
        "foreign_code",
        "attention from a kernel of the Hub",
        setting(_ENCODER_CONFIG, attn_implementation=_KERNEL),
    ),
    "setting-kernel-inside": (
        "foreign_code",
        "attention from a kernel of the Hub, in one part of a model",
        setting(_ENCODER_CONFIG, text_config={"_attn_implementation": {"": "sdpa", "vision": _KERNEL}}),
    ),
    "setting-classes": (
        "foreign_code",
        "a tokenizer class from a file",
        setting("tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]}),
    ),
    "setting-file": (
        "foreign_code",
        "a tokenizer from another file",
        setting("tokenizer/tokenizer_config.json", fast_tokenizer_files=["../../tokenizer.4.0.0.json"]),
    ),
    "setting-quantizer": (
        "foreign_code",
        "a way of quantizing whose kernels are the Hub's",
        setting(_ENCODER_CONFIG, quantization_config={"quant_method": "mxfp4"}),
    ),
    "recipe-component": (
        "bad_recipe",
        "a step on what is a method of every model, and no component",
        recorded(
            write(
                "recipe.yaml",
                "name: whole\nversion: 1\nmodel: {id: redux-tiny}\n"
                "steps:\n- compile: {component: save_pretrained, mode: jit}\n",
            )
        ),
    ),
}
"""(fault, idea, damage) by the folder's name."""
