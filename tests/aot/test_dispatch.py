"""Real packages: three layers, two shapes, one compilation each."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from aot.tiny import make_call, make_model
from qcompile.aot.build import build_packages, check_errors
from qcompile.aot.callspec import spec_of
from qcompile.aot.dispatch import install
from qcompile.aot.runtime import LoadedPackage
from qcompile.errors import CallError, MachineError, VerifyError
from qcompile.modules import repeated_blocks
from qcompile.package import Package
from qcompile.progress import Silent

pytestmark = pytest.mark.slow

CALLS = {"a": make_call(24), "b": make_call(40), "a again": make_call(24, seed=9)}


def build(model: nn.Module, calls: dict, root: Path) -> list[Package]:
    runs = {label: lambda call=call: model(**call) for label, call in calls.items()}
    return build_packages("model", repeated_blocks(model), runs, root, Silent(), 1e-4)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Package]]:
    root = tmp_path_factory.mktemp("packages")
    return root, build(make_model(), CALLS, root)


@pytest.fixture
def loaded(built: tuple[Path, list[Package]]) -> list[LoadedPackage]:
    root, packages = built
    return [LoadedPackage(root / package.file, package) for package in packages]


@pytest.fixture
def model(loaded: list[LoadedPackage]) -> nn.Module:
    model = make_model()
    install("model", model, loaded, {label: spec_of(call) for label, call in CALLS.items()})
    return model


def test_one_package_a_call_shared_by_all_layers(built: tuple[Path, list[Package]]) -> None:
    root, packages = built
    assert [(package.shapes, package.layers) for package in packages] == [
        (("a", "a again"), ("blocks.0", "blocks.1", "blocks.2")),
        (("b",), ("blocks.0", "blocks.1", "blocks.2")),
    ]
    for package in packages:
        assert (root / package.file).is_file()
        assert set(package.relative_errors) == {"blocks.0", "blocks.1", "blocks.2"}
        assert max(package.relative_errors.values()) < 1e-5


@pytest.mark.parametrize("label", list(CALLS))
def test_compiled_equals_eager_for_other_weights_too(loaded: list[LoadedPackage], label: str, seed: int = 3) -> None:
    eager, compiled = make_model(seed), make_model(seed)
    install("model", compiled, loaded, {name: spec_of(call) for name, call in CALLS.items()})
    with torch.no_grad():
        torch.testing.assert_close(compiled(**CALLS[label]), eager(**CALLS[label]))


def test_a_shape_without_a_package_lists_those_there_are(model: nn.Module) -> None:
    with pytest.raises(
        CallError, match=r"hidden is \[1, 33, 8\] float32 \(built for \[1, (24|40), 8\].*Shapes with packages: a, b"
    ):
        model(**make_call(33))
    with pytest.raises(CallError, match="hidden is .* bfloat16"):
        model(**{name: tensor.bfloat16() for name, tensor in CALLS["a"].items()})
    with pytest.raises(CallError, match=r"hidden is \[2, 24, 8\]"):
        model(**{name: torch.cat([tensor, tensor]) for name, tensor in CALLS["a"].items()})


def test_a_block_called_by_itself_checks_its_own_call(model: nn.Module) -> None:
    hidden, context = torch.zeros(1, 24, 32), torch.zeros(1, 5, 8)
    with pytest.raises(CallError, match=r"model.blocks.0: no package fits this call: .*rotary.0 is not given"):
        model.blocks[0](hidden, context)
    rotary = (hidden, hidden)
    model.blocks[0](hidden, context, rotary)
    with pytest.raises(CallError, match=r"scale is 2.0 \(built for 1.0\)"):
        model.blocks[0](hidden, context, rotary, scale=2.0)


def test_eager_where_it_was_asked_for(loaded: list[LoadedPackage]) -> None:
    eager, compiled = make_model(), make_model()
    install("model", compiled, loaded, {label: spec_of(call) for label, call in CALLS.items()}, "eager")
    torch.testing.assert_close(compiled(**make_call(33)), eager(**make_call(33)), rtol=0, atol=0)


def test_what_was_installed_comes_off_again(loaded: list[LoadedPackage]) -> None:
    model = make_model()
    remove = install("model", model, loaded, {label: spec_of(call) for label, call in CALLS.items()})
    remove()
    model(**make_call(33))
    assert "forward" not in vars(model.blocks[0])
    assert not model._forward_pre_hooks


def test_state_and_moves_go_on_working(model: nn.Module) -> None:
    call = CALLS["a"]
    before = model(**call)[0]
    assert set(model.state_dict()) == set(make_model().state_dict())
    model.load_state_dict(make_model(seed=7).state_dict())
    torch.testing.assert_close(model(**call), make_model(seed=7)(**call))
    assert not torch.allclose(model(**call)[0], before)
    model.to("cpu")
    model.bfloat16()
    with pytest.raises(CallError, match="weight first.weight is bfloat16"):
        model.blocks[0](torch.zeros(1, 24, 32), torch.zeros(1, 5, 8), (torch.zeros(1, 24, 32),) * 2)


def test_the_generated_code_checks_its_inputs_as_a_second_net(loaded: list[LoadedPackage]) -> None:
    package = loaded[0].package
    inputs = [torch.zeros(item.shape) for item in package.inputs]
    loaded[0].run(list(inputs))
    wrong = [torch.zeros(3, 3), *inputs[1:]]
    with pytest.raises(RuntimeError, match="input_handles"):
        loaded[0].run(wrong)


@pytest.mark.parametrize("error", [0.5, float("nan")])
def test_packages_that_compute_something_else_are_not_kept(built: tuple[Path, list[Package]], error: float) -> None:
    package = dataclasses.replace(built[1][0], relative_errors={"blocks.0": 0.0, "blocks.2": error})
    with pytest.raises(
        VerifyError, match=r"compiled Block differs .* in blocks.2 for a, at most 0.02 is allowed \(verify"
    ):
        check_errors(package, 0.02)
    check_errors(built[1][0], 0.02)


def test_a_file_that_is_no_package(tmp_path: Path, loaded: list[LoadedPackage]) -> None:
    path = tmp_path / "broken.pt2"
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(MachineError, match="could not be opened"):
        LoadedPackage(path, dataclasses.replace(loaded[0].package, file="broken.pt2"))


def test_layers_that_differ_get_packages_of_their_own(tmp_path: Path) -> None:
    model = make_model()
    model.blocks[1].gain = 2.0
    packages = build(model, {"a": CALLS["a"]}, tmp_path)
    assert [(package.file, package.layers) for package in packages] == [
        ("compiled/model/a/Block.pt2", ("blocks.0", "blocks.2")),
        ("compiled/model/a/Block_2.pt2", ("blocks.1",)),
    ]
