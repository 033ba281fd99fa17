"""The walk of one scheme through everything its row claims, on any device."""

import copy
from pathlib import Path

import torch
import yaml
from diffusers import ReduxImageEncoder
from safetensors import safe_open
from torch import nn

import qcompile
from qcompile import recipe as recipes
from qcompile.aot.bind import Binding
from qcompile.aot.build import build_packages
from qcompile.aot.callspec import leaves
from qcompile.aot.compare import relative_error
from qcompile.aot.options import BASE
from qcompile.aot.runtime import LoadedPackage
from qcompile.artifact.tensors import WEIGHTS
from qcompile.modules import inner_tensors, linears, stored_bytes
from qcompile.progress import Silent
from qcompile.schemes import SCHEMES
from qcompile.steps.calibration import inputs_of
from schemes.layers import MAX_ERROR

MAX_COMPILED_ERROR = 0.02
"""As recipes allow by default."""


class Pair(nn.Module):
    """Two linears with an activation between: the smallest that can be compiled."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, 2 * features), nn.Linear(2 * features, features, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.second(nn.functional.gelu(self.first(hidden)))


def noise(features: int, device: str, rows: int = 64) -> torch.Tensor:
    """Inputs [1, rows, features]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, rows, features, generator=generator).bfloat16().to(device)


def pair(name: str, features: int, device: str) -> Pair:
    """A quantized pair, calibrated for `noise`."""
    torch.manual_seed(0)
    module = Pair(features).bfloat16().to(device).eval().requires_grad_(False)
    layers = linears(module)
    seen = inputs_of(module, layers, {"s": {"hidden": noise(features, device)}})
    for key, layer in layers.items():
        SCHEMES[name].quantize(layer, seen=seen[key])
    return module


def walk_artifact(name: str, features: int, device: str, folder: Path) -> None:
    """Plan, quantize, save, load, compare."""
    torch.manual_seed(0)
    model = ReduxImageEncoder(redux_dim=features, txt_in_features=features).bfloat16().to(device).eval()
    original, hidden = copy.deepcopy(model), noise(features, device)
    recipe = recipes.parse(
        yaml.safe_dump(
            {
                "name": "walk",
                "version": 1,
                "model": {"id": "redux-tiny"},
                "steps": [{"quantize": {"component": "model", "scheme": name, "layers": {"include": ["**"]}}}],
            }
        )
    )
    plan = qcompile.plan(recipe, model=model, example_inputs=[{"x": hidden}], device=device)
    assert plan.obstacles == ()
    assert [change.action for change in plan.changes] == [name, name]
    artifact = qcompile.apply(recipe, model=model, example_inputs=[{"x": hidden}], out=folder, device=device)
    assert artifact.manifest.changes == plan.changes
    loaded = qcompile.load(folder, device=device)
    assert type(loaded) is ReduxImageEncoder
    assert all(SCHEMES[name].recognise(layer.weight) for layer in linears(loaded).values())
    assert stored_bytes(loaded) == stored_bytes(model) == plan.bytes_after == bytes_of_file(folder)
    for mine, theirs in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True):
        assert type(mine) is type(theirs)
        for part, other in zip(inner_tensors(mine), inner_tensors(theirs), strict=True):
            assert torch.equal(bits(part), bits(other))
    with torch.no_grad():
        found, written, expected = (module(hidden).image_embeds for module in (loaded, model, original))
    assert torch.equal(found, written)
    # Two layers in a row add up.
    assert relative_error(found, expected) <= 2 * MAX_ERROR[name]
    assert name == "none" or relative_error(found, expected) > 0


def bytes_of_file(folder: Path) -> int:
    """Bytes of all tensors as they lie in the artifact."""
    total = 0
    for path in folder.glob(f"*/{WEIGHTS}*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(file.get_tensor(key).nbytes for key in file.keys())  # noqa: SIM118
    return total


def walk_jit(name: str, features: int, device: str) -> None:
    """Compile with torch.compile, without a break in the graph."""
    torch.compiler.reset()
    module, hidden = pair(name, features, device), noise(features, device)
    with torch.no_grad():
        expected = module(hidden)
        # Rounding as eager code does: one step of float8 more or less is 6 % of a value.
        found = torch.compile(module, fullgraph=True, options=dict(BASE))(hidden)
    assert relative_error(found, expected) < MAX_COMPILED_ERROR


def walk_aot(name: str, features: int, device: str, folder: Path) -> None:
    """Compile ahead of time, and run the package with the weights of another module of the same kind."""
    module, hidden = pair(name, features, device), noise(features, device)
    runs = {"s": lambda: module(hidden=hidden)}
    built = build_packages("model", {"": module}, runs, folder, Silent(), MAX_COMPILED_ERROR)
    assert [package.layers for package in built] == [("",)]
    other = copy.deepcopy(module)
    other.first.bias.add_(1)
    for layer in linears(other).values():
        # As bytes: not every dtype can be flipped.
        first = next(inner_tensors(layer.weight)).view(torch.uint8)
        first.copy_(first.flip(0))
        for scale in ("act_quant_scale", "input_scale"):
            if getattr(layer.weight, scale, None) is not None:
                getattr(layer.weight, scale).mul_(1.5)
    index = torch.device(device).index if device.startswith("cuda") else -1
    loaded = LoadedPackage(folder / built[0].file, built[0], 0 if index is None else index)
    with torch.no_grad():
        found, expected = Binding(other, loaded).run(leaves({"hidden": hidden})), other(hidden)
        assert relative_error(found, expected) < MAX_COMPILED_ERROR
        assert relative_error(found, module(hidden)) > MAX_COMPILED_ERROR


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a plain tensor: not every dtype can be compared."""
    return tensor.detach().reshape(-1).view(torch.uint8)
