"""Whether Python finds libraries compiled to bytecode, or compiles their source again at every start."""

import importlib.util
import sys
from pathlib import Path

LIBRARIES = ("torch", "diffusers", "transformers", "torchao", "peft", "sympy")
"""Most of the modules that a pipeline imports; sympy is torch's."""
SAMPLED = 20
"""Modules of each that are looked at."""


def without_bytecode() -> dict[str, Path]:
    """Folders of the installed libraries that Python would compile from source at a start, by library."""
    found = {}
    for name in LIBRARIES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        folder = Path(spec.origin).parent
        if not any(map(_has_bytecode, sorted(folder.glob("*.py"))[:SAMPLED])):
            found[name] = folder
    return found


def slow_start() -> str | None:
    """What makes every start slow, and every compile worker; None where the libraries have bytecode."""
    missing = without_bytecode()
    if not missing:
        return None
    reason = ", since PYTHONDONTWRITEBYTECODE is set" if sys.dont_write_bytecode else ""
    folders = " ".join(map(str, missing.values()))
    return (
        f"Python compiles {', '.join(missing)} from source at every start{reason}: a start takes seconds more, and "
        f"every compile worker too. Once: {sys.executable} -m compileall -q -j 0 {folders}"
    )


def _has_bytecode(source: Path) -> bool:
    """Whether there is bytecode made of this very source; Python's own check is that of the time and the size."""
    cached = Path(importlib.util.cache_from_source(str(source)))
    try:
        header, stat = cached.read_bytes()[:16], source.stat()
    except OSError:
        return False
    flags, modified, size = (int.from_bytes(header[at : at + 4], "little") for at in (4, 8, 12))
    by_hash = flags & 1  # unchecked, or checked by the source's hash: such bytecode is made on purpose
    mine = (int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF)
    return header[:4] == importlib.util.MAGIC_NUMBER and bool(by_hash or (modified, size) == mine)
