"""Every row of the scheme table is walked through what it claims."""

import pytest
import torch
from torch import nn

from qcompile.modules import tensor_bytes
from qcompile.schemes import SCHEMES


def quantized(name: str, in_features: int = 64, out_features: int = 96) -> nn.Linear:
    from torchao.quantization import quantize_

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(in_features, out_features, dtype=torch.bfloat16)).requires_grad_(False)
    quantize_(model, SCHEMES[name].config())
    return model[0]


@pytest.mark.parametrize("name", SCHEMES)
def test_a_row_knows_its_weights_and_no_others(name: str) -> None:
    weight = quantized(name).weight
    assert [other for other, scheme in SCHEMES.items() if scheme.recognise(weight)] == [name]
    assert not SCHEMES[name].recognise(nn.Linear(4, 4).weight)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("features", [(64, 96), (256, 16)])
def test_bytes_are_predicted_exactly(name: str, features: tuple[int, int]) -> None:
    assert tensor_bytes(quantized(name, *features).weight) == SCHEMES[name].stored_bytes(*features)


@pytest.mark.parametrize("name", SCHEMES)
def test_output_stays_close(name: str) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(64, 96, dtype=torch.bfloat16).requires_grad_(False)
    hidden = torch.randn(32, 64, dtype=torch.bfloat16)
    error = (quantized(name)(hidden) - plain(hidden)).float().norm() / plain(hidden).float().norm()
    assert 0 < error < 0.04


@pytest.mark.parametrize("name", SCHEMES)
def test_making_a_configuration_changes_no_compiler_option(name: str) -> None:
    import torch._inductor.config as inductor

    before = inductor.save_config_portable()
    quantized(name)
    assert inductor.save_config_portable() == before


def test_what_a_device_lacks_is_said() -> None:
    float8 = SCHEMES["float8_weight_only"]
    assert float8.why_not_device("cpu", None) is None
    assert float8.why_not_device("cuda", (9, 0)) is None
    assert float8.why_not_device("cuda", (8, 0)) == (
        "float8_weight_only needs a GPU of compute capability 8.9 or higher; this one has 8.0"
    )
    assert "runs on cpu or cuda, not on mps" in str(float8.why_not_device("mps", None))


def test_what_a_layer_lacks_is_said() -> None:
    int8 = SCHEMES["int8_dynamic"]
    assert int8.why_not_layer(64, 64, (1,), None) is None
    assert int8.why_not_layer(64, 64, (1,), "cpu") is None
    assert int8.why_not_layer(64, 64, (256, 16), "cuda") == "int8_dynamic compiled for cuda needs 17 rows or more"
    assert int8.why_not_layer(64, 64, (17,), "cuda") is None
    assert int8.why_not_layer(60, 64, (), None) == "features are not multiples of 8"
