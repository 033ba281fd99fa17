"""Which arms there are on this machine, and that each runs what it says on the same inputs."""

import dataclasses
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import demo_data, eager_steps

import qcompile
from qcompile import recipe as recipes
from qcompile.artifact.read import Artifact, read_artifact
from qcompile.bench import arms
from qcompile.bench.arms import ARMS, arms_of, choose, make_stand
from qcompile.bench.around import packaged
from qcompile.bench.found import Found
from qcompile.errors import MachineError, PlanError
from qcompile.package import CallSpec, Package

CPU = torch.device("cpu")
ONE = "128x128_b1"


def with_packages(
    artifact: Artifact, component: str = "transformer", file: str = "recipe.yaml", **here: str
) -> Artifact:
    """The artifact with a package that is none, made in an environment that differs in `here`."""
    call = CallSpec("cpu", ())
    package = Package(component, file, "Block", ("",), (ONE,), call, (), 0, {}, {}, 1.0)
    environment = dataclasses.replace(artifact.manifest.environment, **here)
    manifest = artifact.manifest.model_copy(update={"packages": (package,), "environment": environment})
    return dataclasses.replace(artifact, manifest=manifest)


def test_arms_this_machine_or_artifact_has_not(eager_artifact: Path) -> None:
    artifact = read_artifact(eager_artifact)
    names, absent = choose((), artifact, CPU)
    assert names == ["eager", "jit_bf16", "eager_quantized", "jit"]
    assert absent.keys() == ARMS.keys() - set(names)
    with pytest.raises(MachineError, match="--arms aot_graphs: CUDA graphs need a GPU"):
        choose(("aot_graphs",), artifact, CPU)
    with pytest.raises(MachineError, match="--arms aot: the artifact has no packages"):
        choose(("aot",), artifact, CPU)
    with pytest.raises(PlanError, match="--arms fast: there is no such arm; allowed here: aot, aot_graphs, eager"):
        choose(("fast",), artifact, CPU)


def test_packages_of_another_machine_are_not_opened(eager_artifact: Path) -> None:
    artifact = with_packages(read_artifact(eager_artifact), torch="2.0.0")
    names, absent = choose((), artifact, CPU)
    assert "aot" not in names
    assert "torch: built for 2.0.0, here" in absent["aot"]
    with pytest.raises(MachineError, match="--arms aot: the packages of this artifact don't fit this machine"):
        choose(("aot",), artifact, CPU)
    assert "aot" in choose((), with_packages(read_artifact(eager_artifact)), CPU)[0]


def test_arms_of_an_original_that_is_gone(eager_artifact: Path) -> None:
    artifact = read_artifact(eager_artifact)
    model = artifact.manifest.model.model_copy(update={"id": "/nowhere/at/all"})
    artifact = dataclasses.replace(artifact, manifest=artifact.manifest.model_copy(update={"model": model}))
    names, absent = choose((), artifact, CPU)
    assert names == ["eager_quantized", "jit"]
    assert "there is no folder /nowhere/at/all" in absent["eager"]
    with pytest.raises(MachineError, match="--arms jit_bf16: model.id: there is no folder"):
        choose(("jit_bf16",), artifact, CPU)


def test_schemes_that_this_machine_can_not_run(eager_artifact: Path, tmp_path: Path) -> None:
    artifact = read_artifact(eager_artifact)
    data = yaml.safe_load(artifact.recipe_text)
    for step in data["steps"]:
        if "quantize" in step:
            step["quantize"] |= {"scheme": "float8_row"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data))
    artifact = dataclasses.replace(artifact, folder=tmp_path)
    names, absent = choose((), artifact, CPU)
    assert names == ["eager", "jit_bf16"]
    assert absent["jit"] == "float8_row runs on cuda, not on cpu"


def test_a_package_that_can_not_be_opened_costs_its_arm_alone(eager_artifact: Path) -> None:
    found, artifact = Found(), with_packages(read_artifact(eager_artifact))
    stand = make_stand(found, artifact, {}, ("eager_quantized", "aot"), CPU)
    assert arms_of(found, stand, ("eager_quantized", "aot"), ONE).keys() == {"eager_quantized"}
    assert "recipe.yaml could not be opened" in found.absent[f"aot, at {ONE}"]


def test_all_arms_get_the_same_inputs(eager_artifact: Path) -> None:
    found, artifact = Found(), read_artifact(eager_artifact)
    names = ("eager", "jit_bf16", "eager_quantized", "jit", "other")
    stand = make_stand(found, artifact, {"other": artifact}, names[:-1], CPU)
    seen: dict[str, dict] = {}
    for name in names:

        def see(module: torch.nn.Module, args: tuple, given: dict, name: str = name) -> None:
            seen[name] = given

        arm = arms_of(found, stand, (name,), ONE)[name]
        hook = stand.model(name).register_forward_pre_hook(see, with_kwargs=True)
        arm.call()  # outside of `around`: eagerly, which is quicker
        hook.remove()
    assert len({id(stand.model(name)) for name in names}) == 3
    for given in seen.values():
        assert given.keys() == stand.calls[ONE].keys()
        for key, value in given.items():
            same = stand.calls[ONE][key]
            assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same
    assert seen.keys() == set(names)


def test_inputs_and_limit_are_the_originals_whatever_comes_first(eager_artifact: Path) -> None:
    stand = make_stand(Found(), read_artifact(eager_artifact), {}, ("eager_quantized", "eager"), CPU)
    assert list(stand.pipelines) == ["original", "artifact"]


def test_a_pipeline_without_memory_for_its_inputs_is_gone_before_the_next_is_tried(
    eager_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref] = []
    there: list[list[bool]] = []

    def subject(_: object, pipeline: object) -> SimpleNamespace:
        def calls() -> dict:
            there.append([reference() is not None for reference in loaded])
            raise torch.OutOfMemoryError(f"CUDA out of memory, with {pipeline}")

        return SimpleNamespace(calls=calls)

    class StandIn:
        def __init__(self, *_: object) -> None:
            self.itself = self  # as compiled code is part of reference cycles
            loaded.append(weakref.ref(self))

        def set_progress_bar_config(self, disable: bool) -> None: ...

    monkeypatch.setattr(arms, "_load", StandIn)
    monkeypatch.setattr(arms, "subject_of_pipeline", subject)
    found = Found()
    stand = make_stand(found, read_artifact(eager_artifact), {}, ("eager", "eager_quantized"), CPU)
    assert there == [[True, True], [False, True]]
    assert [reference() for reference in loaded] == [None, None]
    assert (stand.pipelines, stand.calls) == ({}, {})
    assert found.absent.keys() == {"eager", "eager_quantized"}


def recipe_with(*compiled: dict) -> recipes.Recipe:
    steps = [*eager_steps(), *({"compile": options} for options in compiled)]
    call = demo_data()["call"] | {"num_inference_steps": 1}
    return recipes.parse(yaml.safe_dump(demo_data() | {"steps": steps, "call": call}), "test.yaml")


@pytest.mark.long
def test_a_component_that_load_compiles_is_compiled_in_the_arm(tmp_path: Path) -> None:
    recipe = recipe_with({"component": "text_encoder", "mode": "jit", "scope": "full"})
    artifact = qcompile.apply(recipe, out=tmp_path / "jit")
    pipeline = qcompile.load(artifact, compiled=False)
    assert pipeline.text_encoder._compiled_call_impl is None
    with packaged(artifact, pipeline, {})():
        assert pipeline.text_encoder._compiled_call_impl is not None
        assert pipeline.vae.decoder._compiled_call_impl is None
    assert pipeline.text_encoder._compiled_call_impl is None


@pytest.mark.long
def test_a_decoder_with_packages_runs_them_in_the_arm(tmp_path: Path) -> None:
    from qcompile.aot.dispatch import CompiledForward

    recipe = recipe_with({"component": "vae", "mode": "aot", "scope": "full", "method": "decode"})
    artifact = qcompile.apply(recipe, out=tmp_path / "vae")
    found = Found()
    stand = make_stand(found, artifact, {}, ("aot",), CPU)
    decoder = stand.pipeline("aot").vae.decoder
    with arms_of(found, stand, ("aot",), ONE)["aot"].around():
        assert isinstance(decoder.forward, CompiledForward)
    assert not isinstance(decoder.forward, CompiledForward)
    assert "aot" in choose((), artifact, CPU)[0]
