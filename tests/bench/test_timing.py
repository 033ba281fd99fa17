import contextlib
from collections.abc import Iterator

import pytest
import torch

from qcompile.bench.timing import Rounds, Timed, time_in_turn
from qcompile.errors import MachineError
from qcompile.progress import Silent

CPU = torch.device("cpu")


class Arm:
    """Writes its name down when it is called; fails at a chosen call."""

    def __init__(
        self, name: str, log: list[str], fails_at: int = -1, error: type[BaseException] = RuntimeError
    ) -> None:
        self.name, self.log, self.fails_at, self.error, self.calls = name, log, fails_at, error, 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.fails_at:
            raise self.error("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        self.log.append(self.name)


def test_arms_take_turns_after_their_warm_up() -> None:
    log: list[str] = []
    rounds = time_in_turn({name: Timed(Arm(name, log)) for name in "AB"}, 8, 2, CPU, Silent())
    turns = ["".join(log)[index : index + 2] for index in range(4, len(log), 2)]
    assert "".join(log[:4]) == "AABB"
    assert set(turns) == {"AB", "BA"}  # each once a round, and not always in the same order
    assert {name: len(values) for name, values in rounds.ms.items()} == {"A": 8, "B": 8}
    assert rounds.first_ms.keys() == {"A", "B"}


def test_clocks_are_watched_in_the_rounds_alone() -> None:
    log: list[str] = []

    @contextlib.contextmanager
    def watch() -> Iterator[None]:
        log.append("watch")
        try:
            yield
        finally:
            log.append("told")

    time_in_turn({"A": Timed(Arm("A", log))}, 2, 3, CPU, Silent(), watch)
    assert log == ["A", "A", "A", "watch", "A", "A", "told"]
    with pytest.raises(KeyboardInterrupt):
        time_in_turn({"A": Timed(Arm("A", log, 3, KeyboardInterrupt))}, 100, 1, CPU, Silent(), watch)
    assert log[7:] == ["A", "watch", "A", "told"]


def test_each_call_has_its_surroundings_outside_of_the_clock() -> None:
    log: list[str] = []

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        log.append("in")
        yield
        log.append("out")

    time_in_turn({"A": Timed(Arm("A", log), around)}, 2, 1, CPU, Silent())
    assert log == ["in", "A", "out"] * 3


@pytest.mark.parametrize("fails_at", [1, 4])
def test_an_arm_out_of_memory_falls_out_and_the_others_go_on(fails_at: int) -> None:
    log: list[str] = []
    arms = {"A": Timed(Arm("A", log, fails_at, torch.OutOfMemoryError)), "B": Timed(Arm("B", log))}
    rounds = time_in_turn(arms, 3, 2, CPU, Silent())
    assert rounds.ms["A"] == []
    assert len(rounds.ms["B"]) == 3
    assert rounds.absent == {"A": "out of memory: CUDA out of memory. Tried to allocate 2 GiB"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, AssertionError, SystemExit])
def test_however_it_ends_whole_rounds_are_kept(error: type[BaseException]) -> None:
    log: list[str] = []
    arms, kept = {"A": Timed(Arm("A", log)), "B": Timed(Arm("B", log, 5, error))}, Rounds()
    with pytest.raises(error):
        time_in_turn(arms, 100, 2, CPU, Silent(), kept=kept)
    assert {name: len(values) for name, values in kept.ms.items()} == {"A": 2, "B": 2}
    assert kept.first_ms.keys() == {"A", "B"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, AssertionError])
def test_ended_in_the_warm_up_first_calls_are_kept(error: type[BaseException]) -> None:
    log: list[str] = []
    arms, kept = {"A": Timed(Arm("A", log)), "B": Timed(Arm("B", log, 1, error))}, Rounds()
    with pytest.raises(error):
        time_in_turn(arms, 100, 2, CPU, Silent(), kept=kept)
    assert kept.first_ms.keys() == {"A"}


@pytest.mark.parametrize("error", [RuntimeError, ValueError, FileNotFoundError, ImportError, MachineError])
@pytest.mark.parametrize("fails_at", [1, 4])
def test_an_arm_that_fails_for_a_reason_of_its_own_falls_out(error: type[Exception], fails_at: int) -> None:
    log: list[str] = []
    arms = {"A": Timed(Arm("A", log, fails_at, error)), "B": Timed(Arm("B", log))}
    rounds = time_in_turn(arms, 3, 2, CPU, Silent())
    assert rounds.ms["A"] == []
    assert len(rounds.ms["B"]) == 3
    assert "Tried to allocate 2 GiB" in rounds.absent["A"]


@pytest.mark.parametrize("error", [TypeError, AttributeError, KeyError, AssertionError])
def test_mistakes_of_ours_are_not_hidden(error: type[Exception]) -> None:
    with pytest.raises(error, match="out of memory"):
        time_in_turn({"A": Timed(Arm("A", [], 1, error)), "B": Timed(Arm("B", []))}, 1, 1, CPU, Silent())


def test_an_arm_that_can_not_be_brought_about_falls_out() -> None:
    @contextlib.contextmanager
    def around() -> Iterator[None]:
        raise MachineError("its package could not be opened")
        yield

    log: list[str] = []
    rounds = time_in_turn({"A": Timed(Arm("A", log), around), "B": Timed(Arm("B", log))}, 1, 1, CPU, Silent())
    assert rounds.absent == {"A": "its package could not be opened"}
    assert log == ["B", "B"]
