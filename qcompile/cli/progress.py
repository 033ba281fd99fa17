"""What `qcompile.progress` reports, shown on stderr: live on a terminal, line by line in a file, or not at all."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from qcompile.progress import Progress, Silent


class Lines:
    """One line a stage: its title when it starts, its seconds when it is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._open = False

    def start(self, title: str) -> None:
        self.close()
        self._stream.write(f"{title} ... ")
        self._stream.flush()
        self._open = True

    def finish(self, seconds: float) -> None:
        self._stream.write(f"{seconds:.1f} s\n")
        self._stream.flush()
        self._open = False

    def note(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """End the line of a stage that never finished."""
        if self._open:
            self._stream.write("\n")
        self._open = False


class Live:
    """A spinner with the running stage and its seconds, under the stages that are done."""

    def __init__(self) -> None:
        import rich.console
        import rich.progress

        self._progress = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(bar_width=20),
            rich.progress.TimeElapsedColumn(),
            console=rich.console.Console(stderr=True),
            transient=True,
            refresh_per_second=4,
        )
        self._title = ""
        self._task: rich.progress.TaskID | None = None
        self._progress.start()

    def start(self, title: str) -> None:
        self._clear()
        self._title, self._task = title, self._progress.add_task(title, total=None)

    def finish(self, seconds: float) -> None:
        self._clear()
        self._progress.console.print(f"{self._title:<60} {seconds:6.1f} s", markup=False, highlight=False)

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Give the terminal back."""
        self._clear()
        self._progress.stop()

    def _clear(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = None


@contextmanager
def shown(silently: bool) -> Iterator[Progress]:
    """A `Progress` that fits where stderr goes; `silently` is for `--json`."""
    if silently:
        yield Silent()
        return
    display = Live() if sys.stderr.isatty() else Lines(sys.stderr)
    try:
        yield display
    finally:
        display.close()
