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

    def note(self, text: str) -> None:
        """Something the user should know; comes between two stages."""


class Silent:
    """The default: says nothing."""

    def start(self, title: str) -> None:
        return

    def finish(self, seconds: float) -> None:
        return

    def note(self, text: str) -> None:
        return


class Stopwatch:
    """Passes on what it is told, and remembers the seconds of every stage that came to its end."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self._title = ""
        self.seconds: dict[str, float] = {}

    def start(self, title: str) -> None:
        self._title = title
        self._inner.start(title)

    def finish(self, seconds: float) -> None:
        self.seconds[self._title] = self.seconds.get(self._title, 0.0) + seconds
        self._inner.finish(seconds)

    def note(self, text: str) -> None:
        self._inner.note(text)


@contextmanager
def stage(progress: Progress, title: str) -> Iterator[None]:
    """Report `title` while the body runs; a body that raises is not reported as finished."""
    import time

    started = time.perf_counter()
    progress.start(title)
    yield
    progress.finish(time.perf_counter() - started)
