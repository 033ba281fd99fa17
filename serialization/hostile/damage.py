"""Ways to break an artifact, each a function that makes a `Damage`: one change of a folder."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from qcompile.artifact.manifest import MANIFEST
from qcompile.artifact.tensors import WEIGHTS
from qcompile.artifact.write import file_records

COMPONENT = "transformer"
WEIGHT_FILE = f"{COMPONENT}/{WEIGHTS}.safetensors"
PACKAGE_FILE = f"compiled/{COMPONENT}/inputs0/Block.pt2"
Data = dict[str, Any]
Damage = Callable[[Path], None]


def _sign(folder: Path, data: Data) -> None:
    text = json.dumps({**data, "manifest_sha256": "0" * 64}, indent=1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / MANIFEST).write_text(text.replace("0" * 64, digest, 1), encoding="utf-8")


def signed(*edits: Callable[[Data], object]) -> Damage:
    """Damage to the manifest alone, its digest made right."""

    def damage(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_bytes())
        for edit in edits:
            edit(data)
        _sign(folder, data)

    return damage


def unsign(folder: Path) -> None:
    """Take the manifest's own digest away."""
    data = json.loads((folder / MANIFEST).read_bytes())
    del data["manifest_sha256"]
    (folder / MANIFEST).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def put(*place: str | int, to: object) -> Callable[[Data], None]:
    """An edit of the manifest: set the value at `place`."""

    def edit(data: Data) -> None:
        inner: Any = data
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = to

    return edit


def rename(place: str, old: str, new: str) -> Callable[[Data], None]:
    """An edit of the manifest: another name for a key of the mapping at `place`."""

    def edit(data: Data) -> None:
        data[place] = {new if key == old else key: value for key, value in data[place].items()}

    return edit


def recorded(change: Damage, *edits: Callable[[Data], object]) -> Damage:
    """Damage to the files, their records and the manifest's digest made right."""

    def damage(folder: Path) -> None:
        change(folder)
        records = {name: record.model_dump() for name, record in file_records(folder).items()}
        signed(put("files", to=records), *edits)(folder)

    return damage


def flip(file: str, offset: int) -> Damage:
    """Flip the lowest bit of one byte."""

    def damage(folder: Path) -> None:
        content = bytearray((folder / file).read_bytes())
        content[offset] ^= 1
        (folder / file).write_bytes(content)

    return damage


def write(file: str, content: str | bytes) -> Damage:
    """Write a file."""

    def damage(folder: Path) -> None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def remove(file: str) -> Damage:
    """Remove a file."""
    return lambda folder: (folder / file).unlink()


def link(file: str, to: str) -> Damage:
    """Put a symbolic link in a file's place."""

    def damage(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to(to)

    return damage


def weights(change: Callable[[dict[str, torch.Tensor], Data], object]) -> Damage:
    """Damage to tensors or to their description, all digests right."""

    def damage(folder: Path) -> None:
        path = folder / WEIGHT_FILE
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        described = {name: json.loads(text) for name, text in header["__metadata__"].items() if name != "format"}
        tensors = load_file(path)
        change(tensors, described)
        # One key, since safetensors writes several in random order; the rest is put in by hand.
        save_file(tensors, path, metadata={"format": "pt"})
        content = path.read_bytes()
        size = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:size])
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in described.items()}
        header["__metadata__"] = {"format": "pt"} | texts
        head = json.dumps(header, separators=(",", ":")).encode()
        path.write_bytes(len(head).to_bytes(8, "little") + head + content[size:])

    return recorded(damage)


def cut(file: str, size: int) -> Damage:
    """Keep the first `size` bytes of a file."""
    return lambda folder: write(file, (folder / file).read_bytes()[:size])(folder)


def cast_bias(tensors: dict[str, torch.Tensor], described: Data) -> None:
    """Give a bias another dtype."""
    tensors["redux_up.bias"] = tensors["redux_up.bias"].float()


def pipeline(index: object, *change: Damage) -> Damage:
    """A bare model dressed up as a pipeline with this model_index.json."""

    def damage(folder: Path) -> None:
        write("model_index.json", json.dumps(index, indent=1))(folder)
        for also in change:
            also(folder)

    return recorded(damage, put("model", "kind", to="pipeline"), put("model", "class_name", to="FluxPipeline"))


def with_package(*edits: Callable[[Data], object]) -> Damage:
    """A package that must never be opened: it is none."""
    package = {
        "component": COMPONENT,
        "file": PACKAGE_FILE,
        "block": "Block",
        "layers": [""],
        "shapes": ["inputs0"],
        "call": {"device_type": "cpu", "tensors": [], "values": []},
        "inputs": [],
        "output": 0,
        "inductor": {},
        "relative_errors": {},
        "build_seconds": 1.0,
    }
    content = "not compiled code: opening this fails in other words than those expected\n"
    return recorded(write(PACKAGE_FILE, content), put("packages", to=[package]), *edits)
