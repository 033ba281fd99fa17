"""What runs at load, so that it does not run for the first time in somebody's first step."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import fx, nn

import qcompile
from aot.test_export import RunsGraph
from aot.tiny import Model, make_call, make_model
from qcompile import loader
from qcompile.aot.callspec import leaves, spec_of
from qcompile.aot.capture import capture_calls
from qcompile.aot.dispatch import CompiledForward, install
from qcompile.aot.rehearse import rehearse, zeros_for
from qcompile.artifact.read import read_artifact
from qcompile.errors import CallError
from qcompile.modules import repeated_blocks
from qcompile.progress import Silent

CALL = make_call()
SPECS = {"a": spec_of(CALL)}


class Counted(RunsGraph):
    """In the place of a package: counts its runs."""

    runs = 0

    def run(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        self.runs += 1
        return super().run(inputs)


def installed(model: Model) -> Counted:
    """A stand-in for the one package of all blocks, installed on them."""
    blocks = repeated_blocks(model)
    seen = capture_calls(blocks, lambda: model(**CALL), lambda name, spec: True)
    (spec,) = {spec.key(): spec for specs in seen.specs.values() for spec in specs}.values()
    package = Counted(blocks["blocks.0"], seen.arguments["blocks.0", spec])
    package.package = replace(package.package, layers=tuple(blocks))
    install("model", model, [package], SPECS)
    return package


@pytest.fixture
def ran() -> Iterator[Counter[str]]:
    """Classes of the modules that ran."""
    counts: Counter[str] = Counter()

    def count(module: nn.Module, *_: object) -> None:
        if not isinstance(module, fx.GraphModule) and type(module).__name__ != "GuardsFn":  # of the package's stand-in
            counts.update([type(module).__name__])

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    yield counts
    hook.remove()


def test_each_package_runs_once_and_all_around_them_too(ran: Counter[str]) -> None:
    model = make_model()
    expected = model(**CALL)
    package = installed(model)
    ran.clear()
    assert rehearse(model, [package], SPECS) == []
    assert package.runs == 1
    assert ran == {"Linear": 1, "Block": 3, "Model": 1}
    torch.testing.assert_close(model(**CALL), expected)
    assert package.runs == 1 + 3


def test_without_calls_packages_alone_run(ran: Counter[str]) -> None:
    model = make_model()
    package = installed(model)
    ran.clear()
    rehearse(model, [package], {})
    assert (package.runs, dict(ran)) == (1, {})


def test_code_that_refuses_zeros_is_left_for_a_real_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    package = installed(model)
    forward = model.embed.forward

    def refuses(hidden: torch.Tensor) -> torch.Tensor:
        if not hidden.any():
            raise ValueError("nothing to embed")
        return forward(hidden)

    monkeypatch.setattr(model.embed, "forward", refuses)
    assert rehearse(model, [package], SPECS) == ["a: ValueError: nothing to embed"]
    model(**CALL)
    assert package.runs == 1 + 3


def test_weights_that_do_not_fit_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    package = installed(model)
    model.blocks[0].double()
    with pytest.raises(CallError, match="weight first.weight is float64"):
        rehearse(model, [package], SPECS)


def test_zeros_fit_the_call_that_they_stand_for() -> None:
    call = {
        "sample": torch.randn(1, 4, 8, 8).to(memory_format=torch.channels_last),
        "timestep": torch.tensor(3),
        "added": {"ids": torch.randn(1, 6), "scale": 1.5},
        "rotary": (torch.randn(4, 2), torch.randn(4, 2).bfloat16()),
        "lengths": [7, 9],
        "sizes": [[(1, 4, 6)]],
        "name": "x",
        "return_dict": False,
    }
    made = zeros_for(spec_of(call), torch.device("cpu"))
    assert spec_of(made).key() == spec_of(call).key()
    assert list(made) == ["sample", "timestep", "added", "rotary", "lengths", "sizes", "name", "return_dict"]
    assert made["sample"].is_contiguous(memory_format=torch.channels_last)
    assert not any(leaf.any() for leaf in leaves(made).values() if isinstance(leaf, torch.Tensor))
    assert (made["added"]["scale"], made["lengths"], made["return_dict"]) == (1.5, (7, 9), False)
    assert made["sizes"] == [[(1, 4, 6)]]
    with pytest.raises(ValueError, match="malformed"):
        zeros_for(spec_of(call | {"dtype": torch.bfloat16}), torch.device("cpu"))


@pytest.mark.slow
def test_a_loaded_pipeline_has_run_its_denoiser(compiled_artifact: Path, ran: Counter[str]) -> None:
    shapes = len(read_artifact(compiled_artifact).manifest.shapes)
    pipeline = qcompile.load(compiled_artifact)
    assert ran["FluxTransformer2DModel"] == shapes
    assert ran["FluxPosEmbed"] == shapes  # what stands first did not stop it: what stands last ran, too
    assert ran["AdaLayerNormContinuous"] == shapes
    assert not isinstance(pipeline.transformer.forward, CompiledForward)
    blocks = repeated_blocks(pipeline.transformer).values()
    assert all(isinstance(block.forward, CompiledForward) for block in blocks)


@pytest.mark.slow
def test_a_rehearsal_that_was_refused_is_told(compiled_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    monkeypatch.setattr(Silent, "note", lambda self, text: notes.append(text))
    qcompile.load(compiled_artifact)
    assert notes == []
    monkeypatch.setattr(loader, "rehearse", lambda *_: ["96x96_b1: ValueError: all zeros"])
    qcompile.load(compiled_artifact)
    assert notes == [
        "transformer: the first step will take longer, since it could not be rehearsed for 96x96_b1: ValueError: all zeros"
    ]
