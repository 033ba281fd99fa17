"""Keeping other libraries' messages from people they are of no use to.

torchao reports GPU extensions that a CPU build can't load; torch, diffusers and transformers warn about each other's
deprecations and draw progress bars of their own. None of it is about what the user did. Errors always pass, but for one
kind: torch's search for kernels reports each candidate that it passes over, such as one that needs more shared memory
than there is. Where none is left, it raises an error.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from qcompile.exclusive import EXCLUSIVE

_CHATTY = ("torchao", "torch", "diffusers", "transformers", "huggingface_hub")
_SEARCH = "torch._inductor.select_algorithm"
_PASSED_OVER = ("Ignoring this choice", "for benchmark choice")
"""While candidates are timed, and while they are compiled before."""


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Hold back what libraries say while they are imported."""
    with EXCLUSIVE, warnings.catch_warnings():
        before = logging.root.manager.disable
        # They set up their own loggers during the import, so levels set now would not last.
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hold back warnings and progress bars of the libraries underneath while the body runs; everything is put back.

    Another thread that wants the same waits until then, and with it whoever loads, applies or measures.
    """
    import diffusers
    import transformers

    with EXCLUSIVE:
        yield from _quiet(diffusers, transformers)


def _quiet(diffusers: ModuleType, transformers: ModuleType) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    search = logging.getLogger(_SEARCH)

    def not_passed_over(record: logging.LogRecord) -> bool:  # one for each entry: a logger has each filter once
        return not any(words in record.getMessage() for words in _PASSED_OVER)

    switches = [module.utils.logging for module in (diffusers, transformers)]
    drawn = [switch for switch in switches if switch.is_progress_bar_enabled()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        search.addFilter(not_passed_over)
        for switch in drawn:
            switch.disable_progress_bar()
        try:
            yield
        finally:
            search.removeFilter(not_passed_over)
            for switch in drawn:
                switch.enable_progress_bar()
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def truncations() -> Iterator[list[str]]:
    """Collect what diffusers says of prompts that it cuts. To be entered inside of `quiet_libraries`."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "truncated" in record.getMessage():
                found.append(" ".join(record.getMessage().split()))

    logger = logging.getLogger("diffusers")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [Keep()], False
    logger.setLevel(logging.WARNING)
    try:
        yield found
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
