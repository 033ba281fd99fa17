"""Writing the one file that a command makes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def save(out: Path, write: Callable[[Path], Any]) -> None:
    """Make the folder of `out` and write to it, in one go: what was there before stays where that fails.

    Raises:
        MachineError: it can't be written.
    """
    from qcompile.errors import MachineError

    partial = out.with_name(f".{os.getpid()}.{out.name}")  # its suffix says what it is to whoever writes it
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(
            f"--out {out}: can't be written ({error.strerror or error}). Choose another place."
        ) from error
