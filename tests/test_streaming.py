"""Whatever reads a weight while the original is streamed has to bring it first; tests/gpu has the streaming itself."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from stand_ins import Elsewhere
from torch import nn

import qcompile
from qcompile import images, original
from qcompile.errors import MachineError
from qcompile.recipe import Recipe
from qcompile.streaming import Streaming

QUANTIZED = {"quantize": {"component": "transformer", "scheme": "int8_static"}}
NO_SMALLER = {"quantize": {"component": "text_encoder_2", "scheme": "int8_weight_only"}}
"""The denoiser stays as large as it is."""


@pytest.mark.parametrize(
    ("changed", "compiled"),
    [
        (QUANTIZED, None),
        (NO_SMALLER, None),
        pytest.param(QUANTIZED, {"mode": "jit", "scope": "full"}, marks=pytest.mark.slow),
        pytest.param(QUANTIZED, {"mode": "aot", "scope": "blocks"}, marks=pytest.mark.long),
        pytest.param(QUANTIZED, {"mode": "aot", "scope": "full"}, marks=pytest.mark.long),
        pytest.param(NO_SMALLER, {"mode": "aot", "scope": "full"}, marks=pytest.mark.long),
    ],
)
def test_apply_reads_no_weight_that_is_elsewhere(
    changed: dict[str, Any],
    compiled: dict[str, str] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_recipe: Callable[..., Recipe],
) -> None:
    steps: list[dict[str, Any]] = [
        changed,
        *([{"compile": {"component": "transformer", **compiled}}] if compiled else []),
    ]
    recipe = make_recipe(steps=steps)
    expected = qcompile.apply(recipe, out=tmp_path / "expected").folder
    made: list[Elsewhere] = []

    def streaming(model: nn.Module, device: torch.device) -> Elsewhere:
        made.append(Elsewhere(model, device))
        return made[-1]

    real, moved = images.aside, []

    def aside(model: nn.Module, during: nn.Module, device: torch.device) -> Any:
        moved.append((type(model).__name__, type(during).__name__, made[0].closed))
        return real(model, during, device)

    monkeypatch.setattr(images, "aside", aside)
    monkeypatch.setattr(original, "Streaming", streaming)
    monkeypatch.setattr(original, "_is_gpu", lambda device: True)
    found = qcompile.apply(recipe, out=tmp_path / "found").folder
    assert made[0].closed
    assert not made[0].real
    # Not while blocks are streamed: the original is not on the GPU as a whole, and must not get there.
    # Nor what torch.compile runs: it traces the hooks, and fails where they exchange weights.
    jit = compiled is not None and compiled["mode"] == "jit"
    assert moved == ([] if jit else [("FluxTransformer2DModel", "Decoder", True)])
    for file in sorted(expected.rglob("*.safetensors")):
        theirs = load_file(found / file.relative_to(expected))
        for name, tensor in load_file(file).items():
            assert torch.equal(tensor, theirs[name]), f"{file.name}: {name}"
    for name in ("reference.png", "quantized.png"):
        assert np.array_equal(np.asarray(Image.open(expected / name)), np.asarray(Image.open(found / name)))


class Driver:
    """Stands for the CUDA runtime where there is no GPU: says which addresses are locked, and refuses from some on."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.locked: list[int] = []

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:  # noqa: N802 (its name)
        if len(self.locked) == self.most:
            return 2
        self.locked.append(address)
        return 0

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802 (its name)
        self.locked.remove(address)
        return 0


def driver_of(monkeypatch: pytest.MonkeyPatch, most: int) -> Driver:
    driver = Driver(most)

    def check(code: int) -> None:
        if code:
            raise RuntimeError("out of memory")

    monkeypatch.setattr(torch.cuda, "cudart", lambda: driver)
    monkeypatch.setattr(torch.cuda, "check_error", check)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return driver


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4)) for _ in range(4)])


def test_memory_is_unlocked_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, model = driver_of(monkeypatch, 10), Blocks()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    streaming = Streaming(model, torch.device("cpu"))
    assert len(driver.locked) == 4
    streaming.close()
    assert driver.locked == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_memory_is_unlocked_when_the_driver_refuses_some(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = driver_of(monkeypatch, 2)
    with pytest.raises(MachineError, match=r"MB of memory could not be locked for the GPU \(out of memory\)"):
        Streaming(Blocks(), torch.device("cpu"))
    gc.collect()
    assert driver.locked == []


def test_memory_is_unlocked_when_nobody_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, model = driver_of(monkeypatch, 10), Blocks()
    Streaming(model, torch.device("cpu"))
    del model
    gc.collect()
    assert driver.locked == []
