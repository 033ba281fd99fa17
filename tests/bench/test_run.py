"""The benchmark on artifacts of the embedded model; figures are not judged, only that each is there."""

import shutil
from pathlib import Path

import pytest
import torch

import qcompile
from qcompile.bench import images, run, starts
from qcompile.bench.run import Options, bench
from qcompile.errors import ArtifactError, MachineError, PlanError

QUICK = {"rounds": 2, "images": 0, "cold_starts": 0, "limits": False}
BOTH = ("eager", "eager_quantized")
ONE = "128x128_b1"


@pytest.fixture(scope="module")
def two_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with one picture, and two at a time."""
    import yaml
    from conftest import demo_data, eager_steps

    from qcompile import recipe as recipes

    shapes = [{"height": 128, "width": 128}, {"height": 128, "width": 128, "batch": 2}]
    call = demo_data()["call"] | {"num_inference_steps": 2}
    recipe = yaml.safe_dump(demo_data() | {"steps": eager_steps(), "shapes": shapes, "call": call})
    target = tmp_path_factory.mktemp("artifacts") / "two"
    qcompile.apply(recipes.parse(recipe, "test.yaml"), out=target)
    return target


def test_arms_without_a_compiler(two_shapes: Path) -> None:
    record, interrupted = bench(two_shapes, Options(arms=BOTH, **(QUICK | {"images": 2})), "typed")
    assert not interrupted
    assert record.command == "typed"
    assert record.absent == {}
    assert record.arms == set(BOTH)
    for arm in BOTH:
        for shape in (ONE, "128x128_b2"):
            assert record.find(arm, "step", shape).count == 2
            assert record.find(arm, "first call", shape).count == 1
            assert record.find(arm, "images", shape).unit == "image/s"
            for part in ("transformer", "text_encoder", "vae"):
                found = record.find(arm, f"image, {part}", shape)
                assert found.count == 2
                assert found.low <= found.value <= found.high
    for metric in ("step", "image"):
        assert record.ratio("eager_quantized", "eager", metric).count == 2
    assert record.bytes_after < record.bytes_before
    assert record.package_bytes == 0
    assert record.find("artifact", "bytes_on_disk").value > record.bytes_after
    assert record.find("original", "bytes_on_disk").value > record.bytes_before


def test_an_arm_out_of_memory_in_one_shape(two_shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is missing there alone, and the record says where."""
    from qcompile.bench import arms

    def load(*args: object, **options: object):
        pipeline = qcompile.load(*args, **options)

        def refuse(module: torch.nn.Module, args: tuple, given: dict) -> None:
            if len(given["hidden_states"]) == 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

        pipeline.transformer.register_forward_pre_hook(refuse, with_kwargs=True)
        return pipeline

    monkeypatch.setattr(arms, "load", load)
    record, _ = bench(two_shapes, Options(arms=BOTH, **(QUICK | {"images": 1})), "typed")
    reason = "out of memory: CUDA out of memory. Tried to allocate 2 GiB"
    assert record.absent == {"eager_quantized, step at 128x128_b2": reason}
    assert record.find("eager_quantized", "image", ONE) is not None
    assert record.find("eager_quantized", "image", "128x128_b2") is None
    assert record.find("eager", "image", "128x128_b2") is not None


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), OSError("file is gone")])
def test_a_pipeline_that_can_not_be_loaded(
    eager_artifact: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from qcompile.bench import arms

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(arms, "load_pipeline", refuse)
    record, _ = bench(eager_artifact, Options(arms=BOTH, **QUICK), "typed")
    assert str(error) in record.absent["eager"]
    assert record.find("eager_quantized", "step").count == 2


def test_limits_that_run_out_of_memory_cost_nothing_else(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    for name in ("ceilings", "limit_of"):
        monkeypatch.setattr(run, name, refuse)
    record, _ = bench(eager_artifact, Options(arms=("eager_quantized",), **(QUICK | {"limits": True})), "typed")
    assert record.absent.keys() == {"machine, ceilings", f"machine, limit at {ONE}"}
    assert record.find("eager_quantized", "step").count == 2


@pytest.mark.slow
def test_the_limit_of_a_step(eager_artifact: Path) -> None:
    record, _ = bench(eager_artifact, Options(arms=("eager",), **(QUICK | {"limits": True})), "typed")
    limit, step = record.find("machine", "limit", ONE), record.find("eager", "step", ONE)
    found = record.ratio("limit", "eager", "step")
    assert (found.low, found.high) == pytest.approx((limit.value / step.high, limit.value / step.low))
    parts = [record.find("machine", f"limit, {name}").value for name in ("products", "convolutions", "attention")]
    assert limit.value == pytest.approx(sum(parts))
    assert record.find("machine", "copy").unit == "GB/s"


def test_a_step_below_the_limit_is_told(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompile.bench.limits import Limit

    monkeypatch.setattr(run, "ceilings", lambda *_: {})
    monkeypatch.setattr(run, "limit_of", lambda *_: Limit(1e6, 0.0, 0.0))
    record, _ = bench(eager_artifact, Options(arms=("eager_quantized",), **(QUICK | {"limits": True})), "typed")
    assert any("below the limit" in note for note in record.notes)


# --- broken artifacts


def test_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        bench(tmp_path / "nothing", Options(), "typed")


def test_a_broken_manifest(eager_artifact: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(eager_artifact, tmp_path / "broken")
    (broken / "qcompile.json").write_text('{"format_version": 1,')
    with pytest.raises(ArtifactError, match="qcompile.json"):
        bench(broken, Options(), "typed")


def test_weights_that_were_changed(eager_artifact: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(eager_artifact, tmp_path / "broken")
    path = next((broken / "transformer").glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for options, source in ((Options(), broken), (Options(against=(broken,)), eager_artifact)):
        with pytest.raises(ArtifactError, match="safetensors") as caught:
            bench(source, options, "typed")
        assert caught.value.fault == "changed_file"


# --- interruptions


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_interrupted_what_was_measured_is_kept(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "time_images", interrupt)
    options = Options(arms=("eager_quantized",), **(QUICK | {"images": 1}))
    record, interrupted = bench(eager_artifact, options, "typed")
    assert interrupted
    assert record.find("eager_quantized", "step").count == 2
    assert "interrupted" in record.notes[0]


def test_interrupted_between_images(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint, painted = images._paint, []

    def paint_some(*args: object) -> None:
        painted.append(args)
        if len(painted) == 6:  # two to warm up, one round of two, and one of the next
            raise KeyboardInterrupt
        paint(*args)

    monkeypatch.setattr(images, "_paint", paint_some)
    record, interrupted = bench(eager_artifact, Options(arms=BOTH, **(QUICK | {"images": 50})), "typed")
    assert interrupted
    for arm in BOTH:
        assert record.find(arm, "image").count == 1


def test_interrupted_between_cold_starts(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(arm: str, *_: object) -> dict[str, float]:
        if arm == "eager_quantized":
            raise KeyboardInterrupt
        return {"load": 2.0, "first_step": 1.0, "start_to_first_step": 3.0}

    monkeypatch.setattr(starts, "cold_start", start)
    record, interrupted = bench(eager_artifact, Options(arms=BOTH, **(QUICK | {"cold_starts": 1})), "typed")
    assert interrupted
    assert record.find("eager", "cold, load").value == 2.0
    assert record.arms == {"eager"}


# --- cold starts


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


def test_first_steps_of_cold_starts_are_compared(eager_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompile.artifact.read import read_artifact
    from qcompile.bench.found import Found
    from qcompile.progress import Silent

    seconds = {"jit": 50.0, "aot": 1.0, "as_loaded": 2.0}
    monkeypatch.setattr(
        starts, "cold_start", lambda arm, *_: {"first_step": seconds[arm], "start_to_first_step": 2 * seconds[arm]}
    )
    found, artifact = Found(), read_artifact(eager_artifact)
    cpu = torch.device("cpu")
    starts.time_cold_starts(found, artifact, ("jit", "aot", "other"), {"other": artifact}, cpu, 3, True, Silent())
    ratios = {(item.arm, item.over, item.metric): (item.value, item.count) for item in found.ratios}
    assert ratios["jit", "aot", "cold, first_step"] == (50.0, 3)
    assert ratios["jit", "aot", "cold, start_to_first_step"] == (50.0, 3)
    assert ratios["other", "aot", "cold, first_step"] == (2.0, 3)


@pytest.mark.slow
def test_a_cold_start(eager_artifact: Path) -> None:
    found = starts.cold_start("eager_quantized", eager_artifact, "cpu", ONE, True)
    assert 0 < found["first_step"] < found["start_to_first_step"] < found["start_to_image"]
    assert 1e8 < found["resident_cpu"] <= found["peak_cpu"]


@pytest.mark.slow
def test_a_cold_start_that_can_not_be(eager_artifact: Path) -> None:
    with pytest.raises(MachineError, match="eager in a process of its own: .*KeyError: '64x64_b1'"):
        starts.cold_start("eager", eager_artifact, "cpu", "64x64_b1", False)


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


# --- other artifacts


@pytest.mark.slow
def test_other_artifacts_are_arms_with_every_figure(eager_artifact: Path, tmp_path: Path) -> None:
    other = shutil.copytree(eager_artifact, tmp_path / "eager")
    options = Options(arms=BOTH, against=(other,), **(QUICK | {"images": 1}))
    record, _ = bench(eager_artifact, options, "typed")
    name = f"{tmp_path.name}/eager"  # `eager` is the original, and stays it
    assert record.find("eager", "step").count == record.find(name, "step").count == 2
    for metric in ("step", "image"):
        for arm in BOTH:
            assert record.ratio(arm, name, metric) is not None
    for metric in ("image", "images", "image, vae", "bytes_on_disk", "weights", "packages"):
        assert record.find(name, metric) is not None, metric


def test_another_artifact_without_this_shape_has_no_cold_start(
    eager_artifact: Path, two_shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qcompile.artifact import read
    from qcompile.bench.found import Found
    from qcompile.progress import Silent

    artifact, other = read.read_artifact(two_shapes), read.read_artifact(eager_artifact)
    artifact.manifest.shapes.pop(ONE)
    monkeypatch.setattr(starts, "cold_start", interrupt)
    found = Found()
    starts.time_cold_starts(found, artifact, ("other",), {"other": other}, torch.device("cpu"), 1, False, Silent())
    assert found.absent == {"other, cold start": f"its recipe declares {ONE}, and not 128x128_b2"}


def test_arms_that_are_none(eager_artifact: Path) -> None:
    with pytest.raises(PlanError, match="there is no such arm"):
        bench(eager_artifact, Options(arms=("fast",)), "typed")
