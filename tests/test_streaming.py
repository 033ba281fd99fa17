"""Whatever reads a weight while the original is streamed has to bring it first; tests/gpu has the streaming itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import qcompile
from qcompile import original, runner
from qcompile.modules import repeated_blocks
from qcompile.recipe import Recipe


class Elsewhere:
    """Stands for `Streaming` where there is no GPU: weights of blocks are not numbers unless their block runs."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = model
        self.closed = False
        self.real: dict[int, torch.Tensor] = {}
        first = next(model.parameters())
        self.hooks: dict[nn.Module, tuple[Any, ...]] = {}
        for block in repeated_blocks(model).values():
            if all(parameter is not first for parameter in block.parameters()):
                self.hooks[block] = (
                    block.register_forward_pre_hook(self.bring, prepend=True),
                    block.register_forward_hook(self.hide, always_call=True),
                )
                self.hide(block)

    def hide(self, block: nn.Module, *_: Any) -> None:
        for parameter in block.parameters():
            if type(parameter.data) is torch.Tensor and id(parameter) not in self.real:
                self.real[id(parameter)] = parameter.data
                parameter.data = torch.full_like(parameter.data, float("nan"))

    def bring(self, block: nn.Module, *_: Any) -> None:
        for parameter in block.parameters():
            parameter.data = self.real.pop(id(parameter), parameter.data)

    def settle(self, module: nn.Module) -> None:
        for part in module.modules():
            for hook in self.hooks.pop(part, ()):
                hook.remove()
        self.bring(module)

    def close(self) -> None:
        self.settle(self.model)
        self.closed = True


@pytest.mark.parametrize(
    "compiled",
    [
        None,
        pytest.param({"mode": "aot", "scope": "blocks"}, marks=pytest.mark.long),
        pytest.param({"mode": "aot", "scope": "full"}, marks=pytest.mark.long),
    ],
)
def test_apply_reads_no_weight_that_is_elsewhere(
    compiled: dict[str, str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_recipe: Callable[..., Recipe]
) -> None:
    steps: list[dict[str, Any]] = [
        {"quantize": {"component": "transformer", "scheme": "int8_static"}},
        *([{"compile": {"component": "transformer", **compiled}}] if compiled else []),
    ]
    recipe = make_recipe(steps=steps)
    expected = qcompile.apply(recipe, out=tmp_path / "expected").folder
    made: list[Elsewhere] = []

    def streaming(model: nn.Module, device: torch.device) -> Elsewhere:
        made.append(Elsewhere(model, device))
        return made[-1]

    monkeypatch.setattr(original, "Streaming", streaming)
    monkeypatch.setattr(runner, "_shrinks_on_gpu", lambda plan, device: True)
    found = qcompile.apply(recipe, out=tmp_path / "found").folder
    assert made[0].closed
    assert not made[0].real
    for file in sorted(expected.rglob("*.safetensors")):
        theirs = load_file(found / file.relative_to(expected))
        for name, tensor in load_file(file).items():
            assert torch.equal(tensor, theirs[name]), f"{file.name}: {name}"
    for name in ("reference.png", "quantized.png"):
        assert np.array_equal(np.asarray(Image.open(expected / name)), np.asarray(Image.open(found / name)))
