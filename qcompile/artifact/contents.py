"""What an artifact's folders may hold: diffusers and transformers follow what files lead to."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qcompile.artifact.classes import MODEL_INDEX
from qcompile.artifact.manifest import HOSTILE
from qcompile.errors import ArtifactError

INDEX = ".safetensors.index.json"
"""How the name of a list of shards ends."""
REFUSED_SUFFIXES = (".bin", ".ckpt", ".onnx", ".pickle", ".pkl", ".pt", ".pth", ".py")
"""Pickled weights, which transformers reads where an index names them, and code."""
REFUSED_NAMES = ("adapter_config.json", f"/{MODEL_INDEX}")
"""Ends of paths. An adapter names its base model; a pipeline inside of a pipeline imports what its own index says."""


def check_contents(folder: Path, files: Iterable[str]) -> None:
    """Refuse files that lead to code, to pickled data, or to files outside of the artifact.

    Args:
        folder: the artifact.
        files: the paths of all its files.

    Raises:
        ArtifactError: naming the file.
    """
    known = set(files)
    for path in sorted(known):
        is_other_index = path.endswith(".index.json") and not path.endswith(INDEX)
        if is_other_index or path.endswith((*REFUSED_SUFFIXES, *REFUSED_NAMES)):
            raise ArtifactError(
                "foreign_code",
                f"{folder / path}: an artifact's weights are safetensors, and it holds neither code, nor adapters, nor "
                f"pipelines inside of components. {HOSTILE}",
            )
    for path in sorted(known):
        if path.endswith(INDEX):
            _check_index(folder, path, known)


def _check_index(folder: Path, path: str, known: set[str]) -> None:
    index = _read(folder / path)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        raise ArtifactError(
            "foreign_code", f"{folder / path}: weight_map is needed, the file of each tensor by its name. {HOSTILE}"
        )
    parent = path[: path.rfind("/") + 1]
    for shard in shards.values():
        plain = isinstance(shard, str) and "/" not in shard and shard.endswith(".safetensors")
        if not plain or parent + shard not in known:
            raise ArtifactError(
                "escaping_path",
                f"{folder / path}: weight_map names the file {shard!r:.200}; allowed are files *.safetensors of the "
                f"same folder that the manifest lists. {HOSTILE}",
            )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError("foreign_code", f"{path} is not JSON ({error}). {HOSTILE}") from error
