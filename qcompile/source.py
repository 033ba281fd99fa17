"""Where a model comes from: a builtin, a local folder in diffusers format, or the Hub."""

import json
from pathlib import Path
from typing import Any

from qcompile.builtin import BUILTINS, builtin_folder
from qcompile.errors import ModelError, nearest

BUILTIN = "builtin:"
CONFIG_FILES = ["*.json", "*.txt", "*.model", "*/*.json", "*/*.txt", "*/*.model"]
"""What planning needs of a model on the Hub: configurations and tokenizers, no weights."""
WEIGHT_FILES = [*CONFIG_FILES, "*.safetensors", "*/*.safetensors"]


def find_folder(
    model_id: str | None, revision: str | None = None, configs_only: bool = False, place: str = "model.id"
) -> Path:
    """Return the local folder of a model, fetching it from the Hub where that is where it lives.

    Args:
        model_id: `builtin:NAME`, a folder, or a Hub id `owner/name`; None in recipes that are for any model.
        revision: commit, branch or tag on the Hub.
        configs_only: leave weights on the Hub.
        place: where the id was named, for messages: `--model`.

    Raises:
        ModelError: no model is named, there is no such builtin or folder, it is not in diffusers format, or the Hub
            can't be reached.
    """
    if model_id is None:
        raise ModelError(
            "model.id: no model is named here. Name one with --model (--original where an artifact is compared): a "
            "folder in diffusers format, a Hub id, or builtin:NAME."
        )
    if model_id.startswith(BUILTIN):
        name = model_id.removeprefix(BUILTIN)
        if name not in BUILTINS:
            raise ModelError(f"{place}: no builtin model is called {name!r}; {nearest(name, BUILTINS)}")
        return builtin_folder(name)
    folder = Path(model_id).expanduser()
    if folder.exists():
        check_folder(folder)
        return folder
    looks_local = model_id.startswith((".", "/", "~")) or model_id.count("/") != 1 or "\\" in model_id
    if looks_local:
        raise ModelError(
            f"{place}: there is no folder {model_id}. Give a folder in diffusers format, a Hub id (owner/name) or "
            f"builtin:NAME (there is {', '.join(BUILTINS)})."
        )
    return _from_hub(model_id, revision, CONFIG_FILES if configs_only else WEIGHT_FILES, place)


def check_folder(folder: Path) -> None:
    """Refuse a folder that does not hold a pipeline in diffusers format.

    Raises:
        ModelError: saying what is missing.
    """
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is a file; a folder in diffusers format is needed (one that save_pretrained wrote)."
        )
    if not (folder / "model_index.json").is_file():
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) or "nothing"
        raise ModelError(
            f"{folder} is not in diffusers format: it has no model_index.json (it holds {found}). Convert single-file "
            "checkpoints with from_single_file(…).save_pretrained(…)."
        )
    missing = [name for name in component_classes(folder) if not (folder / name).is_dir()]
    if missing:
        raise ModelError(
            f"{folder} is incomplete: model_index.json names {', '.join(missing)}, and there is no such folder."
        )


def model_index(folder: Path) -> dict[str, Any]:
    """The content of a pipeline folder's `model_index.json`.

    Raises:
        ModelError: it is no JSON object, or names no pipeline class.
    """
    path = folder / "model_index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} can't be read: {error}") from error
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise ModelError(f"{path} names no pipeline class under _class_name; it is not a diffusers pipeline.")
    return index


def component_classes(folder: Path) -> dict[str, tuple[str, str]]:
    """(library, class name) of each component that a pipeline folder holds, by component name."""
    return {
        name: (value[0], value[1])
        for name, value in model_index(folder).items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    }


def _from_hub(model_id: str, revision: str | None, patterns: list[str], place: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(model_id, revision=revision, allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{place}: the Hub has no model {model_id} that you may see. Check the spelling; for gated models accept "
            "the licence on its page and log in with `hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"{place}: {model_id} is not a local folder, and the Hub can't be reached ({type(error).__name__}). "
            "Connect to the network, or download it elsewhere and give the folder with --model."
        ) from error
    check_folder(folder)
    return folder
