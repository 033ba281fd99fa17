"""How long work tells where it is, without knowing whether a terminal is listening."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Told at the start and the end of every stage of a run."""

    def start(self, title: str) -> None:
        """A stage begins; stages do not nest."""

    def finish(self, seconds: float) -> None:
        """The stage named last is done."""


class Silent:
    """The default: says nothing."""

    def start(self, title: str) -> None:
        return

    def finish(self, seconds: float) -> None:
        return


@contextmanager
def stage(progress: Progress, title: str) -> Iterator[None]:
    """Report `title` while the body runs; a body that raises is not reported as finished."""
    import time

    started = time.perf_counter()
    progress.start(title)
    yield
    progress.finish(time.perf_counter() - started)
