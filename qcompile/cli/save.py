"""Writing the one file that a command makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def save(out: Path, write: Callable[[Path], Any]) -> None:
    """Make the folder of `out` and write to it.

    Raises:
        MachineError: it can't be written.
    """
    from qcompile.errors import MachineError

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write(out)
    except OSError as error:
        raise MachineError(
            f"--out {out}: can't be written ({error.strerror or error}). Choose another place."
        ) from error
