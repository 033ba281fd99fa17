import logging
from collections.abc import Iterator

import diffusers
import pytest

from qcompile.noise import quiet_libraries

SEARCH = logging.getLogger("torch._inductor.select_algorithm")
LOGGERS = (logging.getLogger("torch"), logging.getLogger("torch._inductor"), SEARCH)


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What torch's loggers would show. Some of them have handlers of their own and pass nothing up."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    keep = Keep()
    for logger in LOGGERS:
        logger.addHandler(keep)
    yield found
    for logger in LOGGERS:
        logger.removeHandler(keep)


def test_errors_pass_and_warnings_do_not(heard: list[str]) -> None:
    with quiet_libraries():
        logging.getLogger("torch").warning("deprecated")
        logging.getLogger("torch._inductor").warning("deprecated")
        logging.getLogger("torch._inductor").error("broken")
    assert set(heard) == {"broken"}


def test_candidates_that_a_search_passes_over_are_not_reported(heard: list[str]) -> None:
    with quiet_libraries():
        with quiet_libraries():
            pass
        SEARCH.error("Runtime error during autotuning: out of resource: shared memory. Ignoring this choice.")
        SEARCH.error("Exception No valid triton configs. OutOfMemoryError for benchmark choice TritonTemplateCaller")
        SEARCH.error("no candidate gives the right result")
    assert set(heard) == {"no candidate gives the right result"}
    SEARCH.error("Ignoring this choice, where nobody asked for silence")
    assert len(set(heard)) == 2


def test_levels_and_progress_bars_are_put_back() -> None:
    names = ("torch", "diffusers", "torch._inductor.select_algorithm")
    before = [logging.getLogger(name).level for name in names]
    drawn = diffusers.utils.logging.is_progress_bar_enabled()
    with pytest.raises(KeyError), quiet_libraries():
        assert not diffusers.utils.logging.is_progress_bar_enabled()
        raise KeyError
    assert [logging.getLogger(name).level for name in names] == before
    assert diffusers.utils.logging.is_progress_bar_enabled() == drawn
