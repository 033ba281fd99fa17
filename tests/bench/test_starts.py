"""Cold starts: processes of their own, and what is kept of them."""

import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from qcompile.artifact.read import read_artifact
from qcompile.bench import probe, starts
from qcompile.bench.found import Found
from qcompile.bench.run import Options, _cold_arms, bench
from qcompile.errors import MachineError, PlanError
from qcompile.progress import Silent

QUICK = {"rounds": 2, "images": 0, "cold_starts": 0, "limits": False}
BOTH = ("eager", "eager_quantized")
ONE = "128x128_b1"


def test_interrupted_between_cold_starts(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start(arm: str, *_: object) -> dict[str, float]:
        started.append(arm)
        if len(started) == 2:
            raise KeyboardInterrupt
        return {"load": 2.0, "first_step": 1.0, "start_to_first_step": 3.0}

    monkeypatch.setattr(starts, "cold_start", start)
    record, interrupted = bench(eager_artifact, Options(arms=BOTH, **(QUICK | {"cold_starts": 1})), "typed")
    assert interrupted
    assert record.find(started[0], "cold, load").value == 2.0
    assert record.arms == {started[0]}


def test_a_process_that_fails_leaves_the_other_figures(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict:
        raise MachineError("eager in a process of its own: killed")

    monkeypatch.setattr(starts, "cold_start", fail)
    record, _ = bench(eager_artifact, Options(arms=BOTH, **(QUICK | {"cold_starts": 1})), "typed")
    assert record.absent["eager, cold start"].endswith("killed")
    for arm in BOTH:
        assert record.find(arm, "step") is not None


def test_cold_starts_of_some_arms_only(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def cold_start(name: str, *_: object) -> dict[str, float]:
        started.append(name)
        return {"first_step": 1.0, "start_to_first_step": 2.0}

    monkeypatch.setattr(starts, "cold_start", cold_start)  # what it measures is tested with processes of their own
    options = Options(arms=BOTH, cold_arms=("eager",), **QUICK | {"cold_starts": 2})
    record, _ = bench(eager_artifact, options, "typed")
    assert started == ["eager", "eager"]
    assert record.find("eager", "cold, first_step").count == 2
    assert record.find("eager_quantized", "step") is not None
    with pytest.raises(PlanError, match="--cold-arms jit: not among the arms of this run; allowed here: eager"):
        bench(eager_artifact, Options(arms=("eager",), cold_arms=("jit",)), "typed")


def test_every_artifact_is_called_as_the_recipe_says_that_is_measured(
    eager_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one that paints fewer steps would seem to be faster."""
    calls = {}

    def cold_start(name: str, folder: Path, device: str, label: str, image: bool, calls_of: Path) -> dict[str, float]:
        calls[folder.name] = calls_of
        return {"first_step": 1.0, "image": 1.0, "images": 2}

    monkeypatch.setattr(starts, "cold_start", cold_start)
    other = tmp_path / "other"
    shutil.copytree(eager_artifact, other)
    options = Options(arms=("eager_quantized",), against=(other,), **QUICK | {"cold_starts": 1})
    record, _ = bench(eager_artifact, options, "typed")
    assert calls == {eager_artifact.name: eager_artifact, "other": eager_artifact}
    assert "cold starts: an image is a call of the pipeline there, which paints 2" in record.notes


def test_calls_of_another_recipe(eager_artifact: Path, tmp_path: Path) -> None:
    """The probe of an artifact takes the shapes, prompt and steps of the recipe that it is given."""
    (tmp_path / "recipe.yaml").write_text((eager_artifact / "recipe.yaml").read_text().replace("128", "64"))
    found = starts.cold_start("eager_quantized", eager_artifact, "cpu", "64x64_b1", False, tmp_path)
    assert found["first_step"] > 0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arms that were started; what is measured of them is tested with processes of their own."""
    names: list[str] = []
    monkeypatch.setattr(starts, "cold_start", lambda name, *_: names.append(name) or {"first_step": 1.0})
    return names


def test_how_people_start_without_an_artifact(eager_artifact: Path, started: list[str]) -> None:
    """Asked for by name, with whatever arms."""
    options = Options(arms=("eager",), cold_arms=("jit_from_original",), **QUICK | {"cold_starts": 1})
    record, _ = bench(eager_artifact, options, "typed")
    assert started == ["jit_from_original"]
    assert record.find("jit_from_original", "cold, first_step") is not None
    assert record.find("jit_from_original", "step") is None


def test_what_quantizing_takes_at_every_start_is_in_the_record() -> None:
    found = Found()
    runs = {"jit_from_original": [{"load": 30.0, "quantize": 20.0}], "aot": [{"load": 2.0}]}
    starts._keep(found, runs, ONE, ())
    assert [(item.arm, item.value) for item in found.measured if item.metric == "cold, quantize"] == [
        ("jit_from_original", 20.0)
    ]


def test_it_is_there_where_nobody_chose_arms() -> None:
    assert _cold_arms(Options(), ("eager", "jit_bf16", "jit"), ("other",)) == (
        *("eager", "jit_bf16", "jit", "jit_from_original"),
        "other",
    )
    assert _cold_arms(Options(arms=("jit", "eager")), ("jit", "eager"), ()) == ("jit", "eager")
    # Without its original there is nothing to start from, and what torch.compile can't take it can't take then.
    assert _cold_arms(Options(), ("jit", "aot"), ()) == ("jit", "aot")
    assert _cold_arms(Options(), ("eager", "jit_bf16"), ()) == ("eager", "jit_bf16")


def test_arms_are_started_in_turn(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine does meanwhile should not fall on one arm."""
    started: list[str] = []

    def start(arm: str, *_: object) -> dict[str, float]:
        started.append(arm)
        if arm == "aot":
            raise MachineError("killed")
        return {"first_step": float(len(started))}

    monkeypatch.setattr(starts, "cold_start", start)
    found, artifact, cpu = Found(), read_artifact(eager_artifact), torch.device("cpu")
    starts.time_cold_starts(found, artifact, ("eager", "jit", "aot"), {}, cpu, 6, False, Silent())
    assert started.count("aot") == 1
    rounds = [started[:3], *([started[at], started[at + 1]] for at in range(3, len(started), 2))]
    assert [set(names) for names in rounds] == [{"eager", "jit", "aot"}, *[{"eager", "jit"}] * 5]
    assert len({tuple(names) for names in rounds[1:]}) == 2
    assert found.absent == {"aot, cold start": "killed"}


def test_an_arm_that_fails_at_a_later_start_has_no_figures(
    eager_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def start(arm: str, *_: object) -> dict[str, float]:
        started.append(arm)
        if started.count("aot") == 2:
            raise MachineError("killed")
        return {"first_step": 1.0}

    monkeypatch.setattr(starts, "cold_start", start)
    found, artifact, cpu = Found(), read_artifact(eager_artifact), torch.device("cpu")
    starts.time_cold_starts(found, artifact, ("aot",), {}, cpu, 3, False, Silent())
    assert started == ["aot", "aot"]
    assert found.absent == {"aot, cold start": "killed"}
    assert (found.measured, found.ratios) == ([], [])


def test_first_steps_of_cold_starts_are_compared(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"jit": 50.0, "jit_from_original": 60.0, "aot": 1.0, "as_loaded": 2.0}
    monkeypatch.setattr(
        starts, "cold_start", lambda arm, *_: {"first_step": seconds[arm], "start_to_first_step": 2 * seconds[arm]}
    )
    found, artifact = Found(), read_artifact(eager_artifact)
    cpu, names = torch.device("cpu"), ("jit", "jit_from_original", "aot", "other")
    starts.time_cold_starts(found, artifact, names, {"other": artifact}, cpu, 3, True, Silent())
    ratios = {(item.arm, item.over, item.metric): (item.value, item.count) for item in found.ratios}
    assert ratios["jit", "aot", "cold, first_step"] == (50.0, 3)
    assert ratios["jit", "aot", "cold, start_to_first_step"] == (50.0, 3)
    assert ratios["jit_from_original", "aot", "cold, start_to_first_step"] == (60.0, 3)
    assert ratios["other", "aot", "cold, first_step"] == (2.0, 3)


def test_starts_that_are_slow_for_lack_of_bytecode_say_so(
    eager_artifact: Path, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = read_artifact(eager_artifact)
    for slow, notes in ((None, []), ("Python compiles torch", ["cold starts: Python compiles torch"])):
        monkeypatch.setattr(starts, "slow_start", lambda slow=slow: slow)
        found = Found()
        starts.time_cold_starts(found, artifact, ("eager",), {}, torch.device("cpu"), 1, False, Silent())
        assert found.notes == notes
    assert started == ["eager"] * 2


def test_nobody_waits_for_steady_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image comes right after the first step, so that the way to it is one step, then a whole image."""
    now, calls = [1000.0], []
    monkeypatch.setattr(probe, "time", SimpleNamespace(time=lambda: now[0], perf_counter=lambda: now[0]))

    def call(name: str, seconds: float) -> int:
        calls.append(name)
        now[0] += seconds
        return 2

    found = probe._run(lambda: call("step", 3.0), lambda: call("image", 20.0), started=900.0)
    assert calls == ["step", "image", *["step"] * probe.STEADY]
    assert found == {
        **{"first_step": 3.0, "steady_step": 3.0, "image": 20.0, "images": 2},
        **{"start_to_first_step": 103.0, "start_to_image": 123.0},
    }
    assert {"image", "start_to_image", "images"} & probe._run(lambda: call("step", 3.0), None, 900.0).keys() == set()


@pytest.mark.long
def test_a_cold_start(eager_artifact: Path) -> None:
    found = starts.cold_start("eager_quantized", eager_artifact, "cpu", ONE, True)
    assert 0 < found["first_step"] < found["start_to_first_step"] < found["start_to_image"]
    assert 1e8 < found["resident_cpu"] <= found["peak_cpu"]


@pytest.mark.long
def test_a_cold_start_without_an_artifact(eager_artifact: Path) -> None:
    """The original is quantized in the new process, so that its weights are those of the artifact, and compiled."""
    found = starts.cold_start("jit_from_original", eager_artifact, "cpu", ONE, False)
    assert found["first_step"] > 3 * found["steady_step"]
    assert found["start_to_first_step"] > found["import"] + found["load"] + found["first_step"]


def test_what_it_quantizes(eager_artifact: Path) -> None:
    """As the artifact has it; and how long that takes, which an artifact spares."""
    artifact = read_artifact(eager_artifact)
    before = time.perf_counter()
    quantized, seconds = probe._load("jit_from_original", artifact, {}, torch.device("cpu"))
    assert seconds.keys() == {"quantize"}
    assert 0 < seconds["quantize"] < time.perf_counter() - before
    loaded, none = probe._load("jit", artifact, {}, torch.device("cpu"))
    assert none == {}
    mine, theirs = quantized.transformer.state_dict(), loaded.transformer.state_dict()
    assert {name: type(tensor) for name, tensor in mine.items()} == {name: type(theirs[name]) for name in theirs}
    assert len({type(tensor) for tensor in mine.values()}) > 1


@pytest.mark.long
def test_memory_of_a_cold_start_is_its_own(eager_artifact: Path) -> None:
    """Not that of the process which started it."""
    ballast = torch.ones(1_200_000_000, dtype=torch.uint8)
    found = starts.cold_start("eager_quantized", eager_artifact, "cpu", ONE, False)
    assert found["peak_cpu"] < ballast.nbytes


@pytest.mark.long
def test_a_cold_start_that_can_not_be(eager_artifact: Path) -> None:
    with pytest.raises(MachineError, match="eager in a process of its own: .*KeyError: '64x64_b1'"):
        starts.cold_start("eager", eager_artifact, "cpu", "64x64_b1", False)


def test_another_artifact_without_this_shape_has_no_cold_start(
    eager_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, other = read_artifact(eager_artifact), read_artifact(eager_artifact)
    artifact.manifest.shapes["64x64_b1"] = artifact.manifest.shapes.pop(ONE)
    monkeypatch.setattr(starts, "cold_start", lambda *_: pytest.fail("there is nothing to start"))
    found = Found()
    starts.time_cold_starts(found, artifact, ("other",), {"other": other}, torch.device("cpu"), 1, False, Silent())
    assert found.absent == {"other, cold start": f"its recipe declares {ONE}, and not 64x64_b1"}
