"""The benchmark on artifacts of the embedded model; figures are not judged, only that each is there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import qcompile
from qcompile.bench import clocks, run
from qcompile.bench.clocks import Clocks
from qcompile.bench.run import Options, bench
from qcompile.errors import ArtifactError, PlanError

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


def test_what_making_the_artifact_took(eager_artifact: Path) -> None:
    made = {"built": {"quantize": 2.0, "verify": 3.0}, "built_peak_gpu_bytes": {"quantize": 7_000, "verify": 9_000}}
    record, _ = bench(eager_artifact, Options(arms=("eager_quantized",), **QUICK, **made), "typed")
    assert record.find("build", "verify").value == 3.0
    assert record.find("build", "peak_gpu, quantize").value == 7_000
    assert record.find("build", "peak_gpu").value == 9_000
    assert record.ratio("build", "weights", "peak_gpu").value == 9_000 / record.bytes_after


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


# --- clocks


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> str:
    """A stand-in for the driver, which says that clocks are held back: there is no GPU here."""

    @contextmanager
    def watched(_: torch.device) -> Iterator[Clocks]:
        found = Clocks()
        try:
            yield found
        finally:
            found.samples, found.held_back["power cap"] = 4, 3

    monkeypatch.setattr(clocks, "watched", watched)
    return "the GPU's clocks were held back: power cap in 3 of 4 samples"


def test_clocks_that_were_held_back_are_told(
    eager_artifact: Path, monkeypatch: pytest.MonkeyPatch, held_back: str
) -> None:
    monkeypatch.setattr(run, "_limits", lambda *_: None)
    options = Options(arms=("eager_quantized",), **(QUICK | {"images": 1, "limits": True}))
    record, _ = bench(eager_artifact, options, "typed")
    measured = [f"{what} of {ONE}" for what in ("steps", "images", "components")]
    assert record.notes == tuple(f"{what}: {held_back}" for what in (*measured, "ceilings and limits"))


def test_clocks_are_told_where_steps_are_interrupted(
    eager_artifact: Path, monkeypatch: pytest.MonkeyPatch, held_back: str
) -> None:
    def once(*given: object) -> None:
        watch = given[-2]
        with watch():
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "time_in_turn", once)
    record, interrupted = bench(eager_artifact, Options(arms=("eager_quantized",), **QUICK), "typed")
    assert interrupted
    assert record.notes[0] == f"steps of {ONE}: {held_back}"


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


def test_arms_that_are_none(eager_artifact: Path) -> None:
    with pytest.raises(PlanError, match="there is no such arm"):
        bench(eager_artifact, Options(arms=("fast",)), "typed")
