"""What the artifact and its original take on the disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from qcompile.artifact.read import Artifact
from qcompile.bench.arms import OF_ORIGINAL
from qcompile.bench.found import Found
from qcompile.source import component_classes, find_folder


def add_bytes(found: Found, artifact: Artifact, others: Mapping[str, Artifact], names: Sequence[str]) -> None:
    """Take down what lies on the disk of the artifact, of its original where an arm runs it, and of other artifacts.

    Args:
        found: told of it.
        artifact: the artifact.
        others: other artifacts, by arm.
        names: arms of the artifact.
    """
    found.add("artifact", "bytes_on_disk", [_bytes_of(artifact.folder)], "bytes")
    if set(OF_ORIGINAL) & set(names):
        model = artifact.manifest.model
        found.add("original", "bytes_on_disk", [_bytes_of_model(find_folder(model.id, model.revision))], "bytes")
    for name, other in others.items():
        found.add(name, "bytes_on_disk", [_bytes_of(other.folder)], "bytes")
        found.add(name, "weights", [other.weight_bytes], "bytes")
        found.add(name, "packages", [other.package_bytes], "bytes")


def _bytes_of_model(folder: Path) -> int:
    """What a pipeline is loaded from; single-file checkpoints and a repository's past often lie beside it."""
    index = (folder / "model_index.json").stat().st_size
    return index + sum(_bytes_of(folder / name) for name in component_classes(folder))


def _bytes_of(folder: Path) -> int:
    """Every file below a folder; the Hub's cache holds links, and what they lead to counts."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
