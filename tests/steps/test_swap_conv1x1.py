import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from qcompile.errors import PlanError
from qcompile.layers import Conv1x1AsLinear
from qcompile.modules import linears
from qcompile.selectors import Includes, Layers, Where
from qcompile.steps.swap_conv1x1 import SwapConv1x1
from steps.test_steps import target


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.Conv2d(16, 16, 1, stride=2),
        nn.Conv2d(16, 16, 1, groups=4),
        nn.Conv2d(16, 16, 1, padding=1),
        nn.Conv2d(16, 4, 1, bias=False),
    ).requires_grad_(False)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_only_what_is_a_linear_is_swapped_and_the_output_stays(layout: torch.memory_format) -> None:
    model = make_model().to(memory_format=layout)
    x = torch.randn(2, 8, 9, 7).to(memory_format=layout)
    expected = model(x)
    step = SwapConv1x1(component="vae")
    changes = step.changes(target(model, component="vae"))
    assert {change.module: change.reason for change in changes} == {
        "0": None,
        "1": "kernel_size is (3, 3), not (1, 1)",
        "2": "stride is (2, 2), not (1, 1)",
        "3": "groups is 4, not 1",
        "4": "padding is (1, 1), not (0, 0)",
        "5": None,
    }
    step.restructure(model)
    assert list(linears(model)) == ["0", "5"]
    torch.testing.assert_close(model(x), expected)


def test_channels_last_passes_without_copies() -> None:
    layer = Conv1x1AsLinear.from_convolution(nn.Conv2d(8, 16, 1))
    x = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last)
    # What goes into the product is a view of what came in, and what comes out is a view of the product.
    assert x.permute(0, 2, 3, 1).is_contiguous()
    assert layer(x).is_contiguous(memory_format=torch.channels_last)


def test_weights_are_kept_and_meta_goes_the_same_way() -> None:
    convolution = nn.Conv2d(8, 16, 1)
    layer = Conv1x1AsLinear.from_convolution(convolution)
    assert torch.equal(layer.weight, convolution.weight[:, :, 0, 0])
    assert torch.equal(layer.bias, convolution.bias)
    with torch.device("meta"):
        on_meta = make_model()
    SwapConv1x1(component="vae").restructure(on_meta)
    real = make_model()
    SwapConv1x1(component="vae").restructure(real)
    assert {name: tensor.shape for name, tensor in on_meta.state_dict().items()} == {
        name: tensor.shape for name, tensor in real.state_dict().items()
    }
    with pytest.raises(ValueError, match="stride is"):
        Conv1x1AsLinear.from_convolution(nn.Conv2d(8, 16, 1, stride=2))


def test_selectors() -> None:
    step = SwapConv1x1(component="vae", layers=Layers(where=Where(channels=Includes(includes=8))))
    model = make_model()
    swapped = [change.module for change in step.changes(target(model, component="vae")) if change.action]
    assert swapped == ["0"]
    step.restructure(model)
    assert list(linears(model)) == ["0"]
    with pytest.raises(PlanError, match="matches nothing|matches no"):
        SwapConv1x1(component="vae", layers=Layers(include=("nothing.*",))).changes(target(model, component="vae"))


def test_a_model_without_any_is_refused() -> None:
    with pytest.raises(PlanError, match=r"no convolution of vae .* the first, 0, .* kernel_size is \(3, 3\)"):
        SwapConv1x1(component="vae").changes(target(nn.Sequential(nn.Conv2d(4, 4, 3)), component="vae"))
    with pytest.raises(PlanError, match="no convolution of vae"):
        SwapConv1x1(component="vae").changes(target(nn.Sequential(nn.Linear(4, 4)), component="vae"))


def test_it_exports_as_code_without_weights() -> None:
    from qcompile.aot.export import lift

    model = make_model()
    SwapConv1x1(component="vae").restructure(model)
    lifted = lift(model, {"input": torch.randn(1, 8, 6, 6)})
    assert {item.name for item in lifted.inputs if item.part is not None} == set(copy.deepcopy(model).state_dict())


def test_in_a_recipe(make_recipe, tmp_path: Path) -> None:
    import numpy as np

    import qcompile

    steps = [{"swap_conv1x1": {"component": "vae"}}]
    artifact = qcompile.apply(make_recipe(steps=steps), out=tmp_path / "swapped")
    assert artifact.manifest.components["vae"].stored == "qcompile"
    pipe = qcompile.load(tmp_path / "swapped")
    swapped = [name for name, part in pipe.vae.named_modules() if isinstance(part, Conv1x1AsLinear)]
    assert swapped == [change.module for change in artifact.manifest.changes if change.action]
    assert artifact.manifest.verification.image_psnr_db is None or artifact.manifest.verification.image_psnr_db > 40
    assert np.isfinite(pipe.vae.decoder(torch.zeros(1, 4, 32, 32, dtype=torch.bfloat16)).float().numpy()).all()
