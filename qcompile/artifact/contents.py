"""What an artifact's folders may hold: diffusers and transformers follow what files and settings lead to."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qcompile.artifact.classes import MODEL_INDEX
from qcompile.artifact.manifest import HOSTILE
from qcompile.errors import ArtifactError

INDEX = ".safetensors.index.json"
"""How the name of a list of shards ends."""
CONFIGURATION = "config.json"
"""How the names of all configurations end: tokenizer_config.json, scheduler_config.json."""
REFUSED_SUFFIXES = (".bin", ".ckpt", ".onnx", ".pickle", ".pkl", ".pt", ".pth", ".py")
"""Pickled weights, which transformers reads where an index names them, and code."""
REFUSED_NAMES = ("adapter_config.json", f"/{MODEL_INDEX}")
"""Ends of paths. An adapter names its base model; a pipeline inside of a pipeline imports what its own index says."""
_PLAIN_ATTENTION = (None, "eager", "sdpa")
_PLAIN_EXPERTS = (None, "eager", "grouped_mm", "batched_mm")
_NOTHING: tuple[Any, ...] = (None, {}, [])
ALLOWED: dict[str, tuple[Any, ...]] = {
    # Other values are kernels of the Hub, or fall back to them.
    "attn_implementation": _PLAIN_ATTENTION,
    "_attn_implementation": _PLAIN_ATTENTION,
    "_attn_implementation_internal": _PLAIN_ATTENTION,
    "experts_implementation": _PLAIN_EXPERTS,
    "_experts_implementation": _PLAIN_EXPERTS,
    "_experts_implementation_internal": _PLAIN_EXPERTS,
    # Classes from files, models of any repository, and other files to be read in place of those that are there.
    "audio_tokenizer": _NOTHING,
    "audio_tokenizer_name_or_path": _NOTHING,
    "auto_map": _NOTHING,
    "configuration_files": _NOTHING,
    "fast_tokenizer_files": _NOTHING,
    "gguf_file": _NOTHING,
}
"""Settings that could lead to code or files elsewhere, and the values that don't."""
QUANTIZATION = "quantization_config"
QUANTIZERS = ("torchao", "bitsandbytes")
"""Ways of quantizing whose code is an installed package's alone; others fetch kernels from the Hub."""


def check_contents(folder: Path, files: Iterable[str], end: str = HOSTILE) -> None:
    """Refuse files and settings that lead to code, to pickled data, or to files outside of the artifact.

    Args:
        folder: the artifact.
        files: the paths of all its files.
        end: how messages end.

    Raises:
        ArtifactError: naming the file, and the setting in it.
    """
    known = set(files)
    for path in sorted(known):
        is_other_index = path.endswith(".index.json") and not path.endswith(INDEX)
        if is_other_index or path.endswith((*REFUSED_SUFFIXES, *REFUSED_NAMES)):
            raise ArtifactError(
                "foreign_code",
                f"{folder / path}: an artifact's weights are safetensors, and it holds neither code, nor adapters, nor "
                f"pipelines inside of components. {end}",
            )
    for path in sorted(known):
        if path.endswith(INDEX):
            _check_index(folder, path, known, end)
        elif path.endswith(CONFIGURATION):
            _check_settings(folder / path, _read(folder / path, end), end)


def without_leads(settings: Any) -> Any:
    """A configuration without the settings that lead to code or files elsewhere; nothing that `load` builds has them.

    A `quantization_config` stays: the weights are stored as it says.
    """
    if isinstance(settings, list):
        return [without_leads(inner) for inner in settings]
    if not isinstance(settings, dict):
        return settings
    return {key: without_leads(value) for key, value in settings.items() if _is_plain(key, value)}


def _check_index(folder: Path, path: str, known: set[str], end: str) -> None:
    index = _read(folder / path, end)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        raise ArtifactError(
            "foreign_code", f"{folder / path}: weight_map is needed, the file of each tensor by its name. {end}"
        )
    parent = path[: path.rfind("/") + 1]
    for shard in shards.values():
        plain = isinstance(shard, str) and "/" not in shard and shard.endswith(".safetensors")
        if not plain or parent + shard not in known:
            raise ArtifactError(
                "escaping_path",
                f"{folder / path}: weight_map names the file {shard!r:.200}; allowed are files *.safetensors of the "
                f"same folder that the manifest lists. {end}",
            )


def _check_settings(place: Path, settings: Any, end: str) -> None:
    waiting = [settings]
    while waiting:
        found = waiting.pop()
        waiting += found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
        for key, value in found.items() if isinstance(found, dict) else ():
            if not _is_plain(key, value):
                raise ArtifactError(
                    "foreign_code",
                    f"{place}: {key} is {value!r:.200}, which leads to code or files that are not part of the "
                    f"artifact; allowed is {', '.join(map(repr, ALLOWED[key]))}. {end}",
                )
            method = value.get("quant_method") if isinstance(value, dict) else value
            if key == QUANTIZATION and value and method not in QUANTIZERS:
                raise ArtifactError(
                    "foreign_code",
                    f"{place}: {key}: quant_method is {method!r:.200}, which may lead to code that is not part of the "
                    f"artifact; allowed is {', '.join(map(repr, QUANTIZERS))}. {end}",
                )


def _is_plain(key: str, value: Any) -> bool:
    if key not in ALLOWED:
        return True
    # One value for each part of a model, by the part's name.
    by_part = isinstance(value, dict) and ALLOWED[key] is not _NOTHING
    return all(one in ALLOWED[key] for one in (value.values() if by_part else [value]))


def _read(path: Path, end: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError("foreign_code", f"{path} is not JSON ({error}). {end}") from error
