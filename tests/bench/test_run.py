"""The benchmark on artifacts of the embedded model; figures are not judged, only that each is there."""

import json
from pathlib import Path

import pytest
import torch

from qcompile.artifact.read import read_artifact
from qcompile.bench import run
from qcompile.bench.arms import ARMS, choose
from qcompile.bench.run import Options, bench
from qcompile.cli import main
from qcompile.errors import ArtifactError, MachineError, PlanError

QUICK = {"rounds": 2, "images": 1, "cold_starts": 0, "limits": False}


def test_arms_without_a_compiler(eager_artifact: Path) -> None:
    record, interrupted = bench(eager_artifact, Options(arms=("eager", "eager_quantized"), **QUICK), "typed")
    assert not interrupted
    assert record.command == "typed"
    for arm in ("eager", "eager_quantized"):
        assert record.find(arm, "step", "128x128_b1").count == 2
        assert record.find(arm, "images").unit == "image/s"
    assert {item.metric for item in record.measured if item.arm == "eager"} >= {"image, transformer", "image, vae"}
    assert record.bytes_after < record.bytes_before
    assert record.package_bytes == 0


def test_costs_follow_from_the_price(eager_artifact: Path) -> None:
    record, _ = bench(eager_artifact, Options(arms=("eager_quantized",), usd_per_hour=3.6, **QUICK), "typed")
    rate, cost = (record.find("eager_quantized", name).value for name in ("images", "cost"))
    assert cost == pytest.approx(1.0 / rate, rel=0.01)


def test_arms_this_machine_or_artifact_has_not(eager_artifact: Path) -> None:
    artifact, cpu = read_artifact(eager_artifact), torch.device("cpu")
    names, absent = choose((), artifact, cpu)
    assert names == ["eager", "jit_bf16", "eager_quantized", "jit"]
    assert absent.keys() == ARMS.keys() - set(names)
    with pytest.raises(MachineError, match="--arms aot_graphs: CUDA graphs need a GPU"):
        choose(("aot_graphs",), artifact, cpu)
    with pytest.raises(MachineError, match="--arms aot: the artifact has no packages"):
        choose(("aot",), artifact, cpu)
    with pytest.raises(PlanError, match="--arms fast: there is no such arm; allowed here: aot, aot_graphs, eager"):
        choose(("fast",), artifact, cpu)


def test_cold_starts_of_some_arms_only(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def cold_start(name: str, *_: object) -> dict[str, float]:
        started.append(name)
        return {"first_step": 1.0}

    monkeypatch.setattr(run, "cold_start", cold_start)  # what it measures is tested with processes of their own
    options = Options(
        arms=("eager", "eager_quantized"), cold_arms=("eager",), **QUICK | {"cold_starts": 2, "images": 0}
    )
    record, _ = bench(eager_artifact, options, "typed")
    assert started == ["eager", "eager"]
    assert record.find("eager", "cold, first_step").count == 2
    assert record.find("eager_quantized", "step") is not None
    with pytest.raises(PlanError, match="--cold-arms jit: not among the arms of this run; allowed here: eager"):
        bench(eager_artifact, Options(arms=("eager",), cold_arms=("jit",)), "typed")


def test_a_broken_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        bench(tmp_path / "nothing", Options(), "typed")


def test_interrupted_what_was_measured_is_kept(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_images", interrupt)
    record, interrupted = bench(eager_artifact, Options(arms=("eager_quantized",), **QUICK), "typed")
    assert interrupted
    assert record.find("eager_quantized", "step").count == 2
    assert "interrupted" in record.notes[0]


def test_a_process_that_fails_is_an_absent_arm(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict:
        raise MachineError("eager in a process of its own: killed")

    monkeypatch.setattr(run, "cold_start", fail)
    options = Options(arms=("eager", "eager_quantized"), **(QUICK | {"cold_starts": 1, "images": 0}))
    record, _ = bench(eager_artifact, options, "typed")
    assert record.absent["eager"].endswith("killed")
    assert record.find("eager_quantized", "step") is not None


def test_the_command(eager_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", str(eager_artifact), "--arms", "eager_quantized", "--steps", "2", "--images", "0"]
    words += ["--cold-starts", "0", "--no-limits", "--record", str(tmp_path)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "eager_quantized" in printed
    assert json.loads((tmp_path / "flux_mini_int8.cpu.json").read_text())["measured"][0]["count"] == 2
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "flux_mini_int8"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "-1"], "negative numbers mean nothing"),
        (["--usd-per-hour", "0"], "give a price above 0"),
        (["--arms", "aot"], "has no packages"),
    ],
)
def test_bad_options(eager_artifact: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(eager_artifact), *words]) in (2, 3)
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_cold_starts_and_packages(compiled_artifact: Path) -> None:
    options = Options(arms=("eager_quantized", "aot"), rounds=2, images=1, limits=False)
    record, _ = bench(compiled_artifact, options, "typed")
    for arm in ("eager_quantized", "aot"):
        first, image = (record.find(arm, f"cold, {name}") for name in ("start_to_first_step", "start_to_image"))
        assert 0 < first.value < image.value
        assert record.find(arm, "peak_cpu").value > 1e8
    assert record.ratio("aot", "eager_quantized").count == 2
    assert record.find("aot", "build, FluxTransformerBlock").unit == "s"


@pytest.mark.slow
def test_a_recipe_is_applied_first(make_recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from conftest import eager_steps

    recipe = make_recipe(steps=eager_steps(), name="mine")
    path = tmp_path / "mine.yaml"
    path.write_text(recipe.to_yaml())
    words = ["--arms", "eager_quantized", "--steps", "1", "--images", "0", "--cold-starts", "0", "--no-limits"]
    assert main(["bench", str(path), *words, "--json"]) == 0
    found = {item["metric"] for item in json.loads(capsys.readouterr().out)["measured"] if item["arm"] == "build"}
    assert {"quantize transformer", "write weights"} <= found
