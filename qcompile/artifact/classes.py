"""Which classes an artifact may name: diffusers imports whatever library its model_index.json says."""

import json
from pathlib import Path
from typing import Any

from qcompile.artifact.manifest import DAMAGED, HOSTILE, Manifest
from qcompile.errors import ArtifactError

MODEL_INDEX = "model_index.json"
_PIPELINE_LIBRARIES = ("diffusers", "transformers")


def check_component(place: Path, name: str) -> None:
    """Refuse the name of a component that could be part of a path.

    Raises:
        ArtifactError: naming it and the file that it stands in.
    """
    if not name.isidentifier():
        raise ArtifactError(
            "escaping_path",
            f"{place} names the component {name!r}; letters, digits and '_' are allowed. {HOSTILE}",
        )


def check_classes(folder: Path, manifest: Manifest) -> None:
    """Refuse a model_index.json that names other libraries or other classes than the manifest does.

    Raises:
        ArtifactError: naming the component.
    """
    if manifest.model.kind != "pipeline":
        return
    path = folder / MODEL_INDEX
    classes = _model_index(path)
    pipeline = classes.pop("_class_name", None)
    if pipeline != manifest.model.class_name:
        raise ArtifactError(
            "foreign_class",
            f"{path}: _class_name is {pipeline!r}; the manifest says {manifest.model.class_name!r}. {HOSTILE}",
        )
    for name, (library, class_name) in classes.items():
        check_component(path, name)
        if library not in _PIPELINE_LIBRARIES and not _is_pipeline_module(library):
            raise ArtifactError(
                "foreign_class",
                f"{path}: {name} is from {library!r}; allowed are {' and '.join(_PIPELINE_LIBRARIES)}. {HOSTILE}",
            )
        record = manifest.components.get(name)
        if record is not None and record.class_name != class_name:
            raise ArtifactError(
                "foreign_class",
                f"{path}: {name} is a {class_name!r}; the manifest says {record.class_name!r}. {HOSTILE}",
            )
    for name in sorted(manifest.components.keys() - classes.keys()):
        raise ArtifactError("foreign_class", f"{path} has no component {name!r}, which the manifest names. {DAMAGED}")


def _model_index(path: Path) -> dict[str, Any]:
    """The pipeline's class name, and (library, class name) of each component it has."""
    try:
        index = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError("foreign_class", f"{path} is not JSON ({error}). {DAMAGED}") from error
    if not isinstance(index, dict):
        raise ArtifactError("foreign_class", f"{path} is a JSON {type(index).__name__}; an object is needed. {DAMAGED}")
    # Entries that are no lists of names are settings of the pipeline.
    found: dict[str, Any] = {"_class_name": index.get("_class_name")}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or not value or not isinstance(value[0], str):
            continue
        if len(value) != 2 or not isinstance(value[1], str):
            raise ArtifactError(
                "foreign_class", f"{path}: {name} is {value!r:.60}; [library, class] is needed. {HOSTILE}"
            )
        found[name] = value
    return found


def _is_pipeline_module(name: str) -> bool:
    """Whether diffusers has a pipeline folder of that name; some pipelines keep a component's class there."""
    import importlib.util

    spec = importlib.util.find_spec("diffusers")
    if spec is None or spec.origin is None or not name.isidentifier():
        return False
    return (Path(spec.origin).parent / "pipelines" / name / "__init__.py").is_file()
