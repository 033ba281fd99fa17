"""Latencies measured before, in one JSON file by machine (with versions and compiler options) and shape.

Errors are not kept: they belong to a model's weights and activations, and measuring them anew is cheap. An entry holds
one interleaved run, so that only figures of the same minute are ever compared.
"""

import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import pydantic

from qcompile.autoquant.decide import Timing


class _Entry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    median_us: float | None = pydantic.Field(None, gt=0, allow_inf_nan=False)
    spread_us: float | None = pydantic.Field(None, ge=0, allow_inf_nan=False)
    failure: str | None = None

    @property
    def outcome(self) -> Timing | str:
        if self.median_us is None or self.spread_us is None:
            return self.failure or "failed before"
        return Timing(self.median_us, self.spread_us)


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    format: Literal[1] = 1
    machines: dict[str, dict[str, dict[str, _Entry]]] = pydantic.Field(default_factory=dict)
    """Machine -> shape -> scheme -> what was measured."""


class Cache:
    """The part of the file that belongs to one machine.

    Args:
        path: the file; None keeps nothing.
        machine: device, versions and compiler options; figures of others are kept and not used.

    Attributes:
        machine: as given.
        notes: what went wrong with the file, for people.
    """

    def __init__(self, path: Path | None, machine: str) -> None:
        self._path = path
        self.machine = machine
        self.notes: list[str] = []
        found = self._read()
        self._known = found.machines.get(machine, {}) if found else {}

    def get(self, shape: str, schemes: Collection[str]) -> dict[str, Timing | str] | None:
        """Timings, or why there is none, of `schemes` for a shape; None unless all of them were measured together."""
        found = self._known.get(shape, {})
        if not set(schemes) <= found.keys():
            return None
        return {name: found[name].outcome for name in schemes}

    def put(self, shape: str, outcomes: dict[str, Timing | str]) -> None:
        """Keep what one run measured for a shape, on disk at once: an interrupted run loses nothing."""
        self._known[shape] = {
            name: _Entry(failure=outcome)
            if isinstance(outcome, str)
            else _Entry(median_us=outcome.median_us, spread_us=outcome.spread_us)
            for name, outcome in outcomes.items()
        }
        if self._path is None:
            return
        # Another process may have written since.
        latest = self._read()
        if latest is None:
            return
        latest.machines.setdefault(self.machine, {})[shape] = self._known[shape]
        try:
            _write(self._path, latest.model_dump_json(indent=1, exclude_none=True))
        except OSError as error:
            self._note(f"the autoquant cache {self._path} can't be written ({error.strerror}); nothing is kept")

    def _read(self) -> _File | None:
        """What the file holds; None where it is something else, which is never overwritten."""
        if self._path is None:
            return _File()
        try:
            content = self._path.read_bytes()
            return _File.model_validate_json(content, strict=True) if content else _File()
        except (FileNotFoundError, NotADirectoryError):
            return _File()
        except (pydantic.ValidationError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not what this qcompile writes"
            self._note(
                f"the autoquant cache {self._path} is left as it is ({reason}): measuring anew, and keeping nothing. "
                "Remove it, or name another file with --cache"
            )
            return None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/qcompile/autoquant.json`, by default in `~/.cache`."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG base directory specification has relative paths ignored.
    folder = named if named.is_absolute() else Path.home() / ".cache"
    return folder / "qcompile" / "autoquant.json"


def _write(path: Path, text: str) -> None:
    """Replace a file at once: readers see the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False
    ) as file:
        try:
            file.write(text)
            file.close()
            Path(file.name).replace(path)
        finally:
            Path(file.name).unlink(missing_ok=True)  # still there only where something went wrong
