"""Verify an artifact's digests and print what is in it.

Nothing in it is executed, and no weights are loaded.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qcompile.cli.apply import errors
from qcompile.cli.options import add_json
from qcompile.cli.table import megabytes, plural, table
from qcompile.fold import fold

if TYPE_CHECKING:
    from qcompile.artifact.read import Artifact


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="folder that `qcompile apply` wrote")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Verify and print."""
    from qcompile.artifact.read import read_artifact

    artifact = read_artifact(options.artifact)
    print(json.dumps(document(artifact), indent=1) if options.json else text(artifact))
    return 0


def document(artifact: Artifact) -> dict[str, Any]:
    """The manifest without its long lists, as plain data."""
    manifest = artifact.manifest
    return {
        "artifact": str(artifact.folder),
        "qcompile": manifest.qcompile,
        "format_version": manifest.format_version,
        "recipe": manifest.recipe.model_dump(mode="json"),
        "model": manifest.model.model_dump(mode="json"),
        "environment": asdict(manifest.environment),
        "denoiser": manifest.denoiser,
        "call": manifest.call,
        "shapes": {label: shape.model_dump(mode="json") for label, shape in manifest.shapes.items()},
        "components": {name: record.model_dump(mode="json") for name, record in manifest.components.items()},
        "actions": _actions(artifact),
        "packages": [
            {
                "file": package.file,
                "bytes": manifest.files[package.file].bytes,
                "block": package.block,
                "layers": list(package.layers),
                "shapes": list(package.shapes),
                "relative_errors": package.relative_errors,
            }
            for package in manifest.packages
        ],
        "verification": manifest.verification.model_dump(mode="json"),
        "weight_bytes": artifact.weight_bytes,
        "package_bytes": artifact.package_bytes,
        "files": len(manifest.files),
    }


def text(artifact: Artifact) -> str:
    """The same as people read it."""
    manifest = artifact.manifest
    here = manifest.environment
    actions = ", ".join(f"{action} x{count}" for action, count in _actions(artifact).items())
    libraries = f"torch {here.torch}, torchao {here.torchao}, diffusers {here.diffusers}, Python {here.python}"
    gpu = f"{here.gpu} (compute capability {here.capability}, CUDA {here.cuda})" if here.gpu else here.machine
    facts = [
        ("recipe", f"{manifest.recipe.name} version {manifest.recipe.version}, qcompile {manifest.qcompile}"),
        ("model", f"{manifest.model.id} ({manifest.model.class_name}, {manifest.model.dtype})"),
        ("shapes", ", ".join(manifest.shapes)),
        ("changes", actions),
        ("made with", libraries),
        ("made on", f"{here.system}, {here.device}, {gpu}"),
        ("errors", errors(artifact)),
        ("files", f"{len(manifest.files)}, each with the digest the manifest names"),
    ]
    return "\n\n".join([f"{artifact.folder}\n{table(facts)}", _components(artifact), *_packages(artifact)])


def _actions(artifact: Artifact) -> dict[str, int]:
    """How many modules each action was done to."""
    actions = [change.action for change in artifact.manifest.changes if change.action]
    return {action: actions.count(action) for action in dict.fromkeys(actions)}


def _components(artifact: Artifact) -> str:
    rows = [("component", "class", "before", "after", "stored as")]
    for name, record in artifact.manifest.components.items():
        rows.append(
            (name, record.class_name, megabytes(record.bytes_before), megabytes(record.bytes_after), record.stored)
        )
    return table(rows, right=(2, 3))


def _packages(artifact: Artifact) -> list[str]:
    manifest = artifact.manifest
    if not manifest.packages:
        return []
    rows = [("package", "size", "layers", "", "shapes")]
    for package in manifest.packages:
        layers = ", ".join(name or "(the component)" for name, _ in fold(package.layers))
        count = plural(len(package.layers), "layer")
        rows.append(
            (package.file, megabytes(manifest.files[package.file].bytes), count, layers, ", ".join(package.shapes))
        )
    return [table(rows, right=(1,))]
