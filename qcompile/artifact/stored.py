"""The plain tensors in a component's safetensors files: read one by one, or cut out of whole files read ahead.

Reading ahead is for a thread beside imports. Importing holds the interpreter's lock, and whoever asks for it waits for
up to 5 milliseconds each time: that adds up for the thousands of tensors of a model, and not for its few files.
"""

import json
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qcompile.artifact.manifest import HOSTILE
from qcompile.errors import ArtifactError

Ahead = MutableMapping[str, torch.Tensor]
"""The bytes of whole files of one component, uint8 [bytes], by file name."""
READERS = 8
"""Files of a component that are read side by side."""
ALIGNMENT_BYTES = 64
"""Where torch puts tensors that it makes itself, and code compiled for them expects them."""


@dataclass(frozen=True)
class Stored:
    """What the files of one component hold."""

    tensors: dict[str, torch.Tensor]
    described: dict[str, str]
    """The files' metadata."""


def read_ahead(folder: Path, device: torch.device) -> Ahead:
    """Read the files of a component as they are, without a look at what they hold."""

    def read(path: Path) -> torch.Tensor:
        return torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8).to(
            device, copy=True
        )

    # A file of no bytes can't be mapped; `read_stored` refuses it.
    paths = [path for path in sorted(folder.glob("*.safetensors")) if path.stat().st_size]
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip([path.name for path in paths], pool.map(read, paths), strict=True))


def read_stored(folder: Path, device: torch.device, ahead: Ahead | None = None) -> Stored:
    """Read every tensor that is stored in `folder`.

    Args:
        folder: the component's.
        device: where to.
        ahead: its files as `read_ahead` gave them, on the same device. A file is taken out once its tensors are cut out
            of it, so that both are there for one file at a time only.

    Raises:
        ArtifactError: a file is no safetensors file, or two hold a tensor of the same name.
    """
    from safetensors import SafetensorError, safe_open

    stored = Stored({}, {})
    for path in sorted(folder.glob("*.safetensors")):
        whole = (ahead or {}).get(path.name)
        try:
            with safe_open(path, framework="pt", device="cpu" if whole is not None else str(device)) as file:
                for name, tensor in _tensors(file) if whole is None else _cut_out(file, path, whole):
                    if name in stored.tensors:
                        raise ArtifactError("bad_tensors", f"{path}: {name} is in another file too. {HOSTILE}")
                    stored.tensors[name] = tensor
                stored.described.update(file.metadata() or {})
        except SafetensorError as error:
            raise ArtifactError("bad_tensors", f"{path}: not a safetensors file: {error}. {HOSTILE}") from error
        if ahead and whole is not None:
            del whole, ahead[path.name]
    return stored


def _tensors(file: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name in file.keys():  # noqa: SIM118 (a safe_open has no __iter__)
        # On a CPU it is mapped, and a file's tensors begin at any multiple of 8 bytes. torch's own kernels for int8
        # weights load aligned vectors, whatever they are given: the process would end there.
        tensor = file.get_tensor(name)
        yield name, tensor.clone() if tensor.data_ptr() % ALIGNMENT_BYTES else tensor


def _cut_out(file: Any, path: Path, whole: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a file whose bytes are in `whole`, each in memory of its own, aligned as kernels want it."""
    with path.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(length))
    # `safe_open` has checked the header. What it gives on a CPU is mapped: of the tensors themselves nothing is read.
    for name, mapped in _tensors(file):
        begin, end = (8 + length + offset for offset in header[name]["data_offsets"])
        yield name, whole[begin:end].clone().view(mapped.dtype).view(mapped.shape)
