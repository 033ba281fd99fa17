"""What every row of the scheme table says of one layer."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from qcompile.modules import tensor_bytes
from qcompile.schemes import SCHEMES, Seen, Settings
from schemes.layers import HERE, MAX_ERROR, PARAMETERS, error, inputs, plain, quantized

made_here = pytest.mark.parametrize("name", PARAMETERS)


def test_names_are_unique_and_have_a_bound() -> None:
    from qcompile.schemes.own import OWN
    from qcompile.schemes.quanto import QUANTO
    from qcompile.schemes.torchao import TORCHAO

    assert len(SCHEMES) == len(TORCHAO) + len(QUANTO) + len(OWN)
    assert set(MAX_ERROR) == set(SCHEMES)


@made_here
def test_a_row_knows_its_weights_and_no_others(name: str) -> None:
    weight = quantized(name).weight
    assert [other for other, scheme in SCHEMES.items() if scheme.recognise(weight)] == [name]
    assert SCHEMES[name].recognise(plain().weight) is (name == "none")
    assert not SCHEMES[name].recognise(torch.zeros(4, 4, dtype=torch.int8))


@made_here
@pytest.mark.parametrize("features", [(128, 96), (256, 32), (1152, 160)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_bytes_are_predicted_exactly(name: str, features: tuple[int, int], dtype: torch.dtype) -> None:
    scheme = SCHEMES[name]
    if scheme.why_not_layer(*features, (), None, str(dtype).removeprefix("torch.")):
        pytest.skip("the row refuses such a layer")
    assert tensor_bytes(quantized(name, *features, dtype).weight) == scheme.stored_bytes(*features, dtype.itemsize)


@pytest.mark.parametrize(
    ("name", "settings"),
    [(name, Settings(group_size=size)) for name in HERE for size in SCHEMES[name].group_sizes]
    + [(name, Settings(weight_bits=bits)) for name in HERE for bits in SCHEMES[name].weight_bits],
)
def test_every_setting_works(name: str, settings: Settings) -> None:
    layer = quantized(name, 256, 96, settings=settings)
    assert tensor_bytes(layer.weight) == SCHEMES[name].stored_bytes(256, 96, 2, settings)
    few = settings.weight_bits is not None and settings.weight_bits < 4
    assert 0 < error(layer(inputs(256)), plain(256, 96)(inputs(256))) < (0.6 if few else 0.12)


def test_bytes_of_tiles_that_only_a_gpu_makes() -> None:
    # Int4TilePackedTo4dTensor: qdata int32 [rows / 8, columns / 128, 32, 4], scales and zeros bfloat16 [groups, rows, 2].
    assert SCHEMES["int4_weight_only"].stored_bytes(1152, 100) == 13 * 16 * 32 * 4 * 4 + 16 * 104 * 2 * 2
    # Int4Tensor: two weights a byte, scale and zero point bfloat16 for every 128.
    assert SCHEMES["float8_dynamic_int4"].stored_bytes(256, 64) == 64 * 128 + 2 * 64 * 2 * 2
    assert SCHEMES["float8_tensor"].stored_bytes(256, 64) == 256 * 64 + 4
    assert SCHEMES["float8_row"].stored_bytes(256, 64) == 256 * 64 + 64 * 4
    assert SCHEMES["nvfp4"].stored_bytes(256, 64) == SCHEMES["nvfp4_weight_only"].stored_bytes(256, 64)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_output_stays_close(name: str, dtype: torch.dtype) -> None:
    if SCHEMES[name].dtypes and str(dtype).removeprefix("torch.") not in SCHEMES[name].dtypes:
        pytest.skip("the row refuses such a layer")
    found, expected = quantized(name, dtype=dtype)(inputs(dtype=dtype)), plain(dtype=dtype)(inputs(dtype=dtype))
    assert found.dtype == dtype
    if name == "none":
        assert torch.equal(found, expected)
    else:
        assert 0 < error(found, expected) < MAX_ERROR[name]


@made_here
def test_weights_move_and_are_copied_as_plain_ones_are(name: str) -> None:
    layer = quantized(name)
    twin = copy.deepcopy(layer)
    assert SCHEMES[name].recognise(twin.weight)
    moved = copy.deepcopy(layer).to("cpu")
    assert SCHEMES[name].recognise(moved.weight)
    if name in HERE:
        assert torch.equal(twin(inputs()), layer(inputs()))
        assert torch.equal(moved(inputs()), layer(inputs()))


@made_here
def test_quantizing_changes_no_compiler_option_and_no_other_tensor(name: str) -> None:
    import torch._inductor.config as inductor

    before = inductor.save_config_portable()
    layer, original = plain(), plain()
    bias = layer.bias
    quantized(name)
    assert inductor.save_config_portable() == before
    assert layer.bias is bias
    assert torch.equal(layer.weight, original.weight)


def test_a_weight_with_one_output_feature() -> None:
    for name in ("quanto_int8", "quanto_float8", "quanto_int4", "int8_weight_only", "float8_weight_only"):
        assert error(quantized(name, 128, 1)(inputs()), plain(128, 1)(inputs())) < MAX_ERROR[name]


def test_a_fixed_scale_cuts_off_what_is_larger() -> None:
    for name, lowest in (("int8_static", -4 * 128 / 127), ("float8_static", -4)):
        layer, large = quantized(name), inputs() * 100
        assert error(layer(large), layer(large.clamp(lowest, 4))) < 0.002
        assert error(layer(large), plain()(large)) > 0.5


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("rows", [slice(None), slice(3, 5)], ids=["all", "two rows"])
def test_zeros_stay_zeros(name: str, rows: slice) -> None:
    layer, original = plain(), plain()
    for changed in (layer, original):
        nn.init.zeros_(changed.weight[rows])
    SCHEMES[name].quantize(layer, None, Seen(4.0, 3))
    hidden = inputs()
    hidden[0, :2] = 0
    found = layer(hidden)
    assert torch.equal(found[0, :, rows], layer.bias[rows].expand_as(found[0, :, rows]))
    assert found.isfinite().all()
    assert error(found, original(hidden)) < MAX_ERROR[name] or name == "none"


def test_quantos_numbers_are_quantos() -> None:
    """Against quanto's own module, which computes with its own tensor class."""
    from optimum.quanto import freeze, qfloat8, qint8, quantize

    for name, kind in (("quanto_int8", qint8), ("quanto_float8", qfloat8)):
        theirs = nn.Sequential(plain())
        quantize(theirs, weights=kind)
        freeze(theirs)
        assert error(quantized(name)(inputs()), theirs(inputs())) < 0.01


def test_what_a_device_lacks_is_said() -> None:
    float8 = SCHEMES["float8_weight_only"]
    assert float8.why_not_device("cpu", None) is None
    assert float8.why_not_device("cuda", (9, 0)) is None
    assert float8.why_not_device("cuda", (8, 0)) == (
        "float8_weight_only needs a GPU of compute capability 8.9 or higher; this one has 8.0"
    )
    assert "runs on cpu or cuda, not on mps" in str(float8.why_not_device("mps", None))
    assert SCHEMES["int4_weight_only"].why_not_device("cpu", None) == "int4_weight_only runs on cuda, not on cpu"
    assert "10.0 or higher; this one has 9.0" in str(SCHEMES["mxfp8"].why_not_device("cuda", (9, 0)))


def test_a_missing_package_is_said_with_its_remedy() -> None:
    scheme = dataclasses.replace(SCHEMES["float8_dynamic_int4"], packages=("torchao", "no_such_package"))
    assert scheme.why_not_device("cuda", (9, 0)) is None
    assert scheme.why_not_machine("cuda", (9, 0)) == (
        "float8_dynamic_int4 needs the package no_such_package, which is not installed: pip install no_such_package"
    )
    nested = dataclasses.replace(scheme, packages=("no_such_parent.part",))
    assert "no_such_parent.part, which is not installed" in str(nested.why_not_machine("cuda", (9, 0)))
    assert SCHEMES["quanto_int8"].why_not_machine("cpu", None) is None


def test_what_a_layer_lacks_is_said() -> None:
    int8 = SCHEMES["int8_dynamic"]
    assert int8.why_not_layer(64, 64, (1,), None) is None
    assert int8.why_not_layer(64, 64, (1,), "cpu") is None
    assert int8.why_not_layer(64, 64, (256, 16), "cuda") == "int8_dynamic compiled for cuda needs 17 rows or more"
    assert int8.why_not_layer(64, 64, (17,), "cuda") is None
    assert int8.why_not_layer(60, 64, (), None) == "features are not multiples of 8"
    for name in ("float8_tensor", "float8_row", "float8_static"):
        assert SCHEMES[name].why_not_layer(64, 24, (), None) == "features are not multiples of 16"
    assert SCHEMES["int4_weight_only"].why_not_layer(192, 64, (), None) == (
        "in features are not a multiple of the group size 128 (group_size: 64 would do)"
    )
    assert SCHEMES["int4_weight_only"].why_not_layer(8, 64, (), None) == (
        "in features are not a multiple of the group size 128"
    )
    assert SCHEMES["int4_weight_only"].why_not_layer(192, 64, (), None, settings=Settings(group_size=64)) is None
    assert SCHEMES["float8_row"].why_not_layer(64, 64, (), None, "float32") == (
        "float8_row takes weights of bfloat16, not of float32"
    )
    assert SCHEMES["float8_row"].why_not_layer(64, 64, (), None, "bfloat16") is None


def test_what_a_scheme_does_not_let_choose_is_said() -> None:
    assert SCHEMES["int8_dynamic"].why_not_settings(Settings()) is None
    assert SCHEMES["int8_dynamic"].why_not_settings(Settings(group_size=64)) == (
        "group_size",
        "int8_dynamic can't take 64: it has no group_size",
    )
    assert SCHEMES["int4_weight_only"].why_not_settings(Settings(group_size=48)) == (
        "group_size",
        "int4_weight_only can't take 48: allowed are 32, 64, 128, 256",
    )
    assert SCHEMES["int4_weight_only"].why_not_settings(Settings(128, 4)) == (
        "weight_bits",
        "int4_weight_only can't take 4: it has no weight_bits",
    )
