import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from schemes.layers import HERE, PARAMETERS
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qcompile.artifact.tensors import WEIGHTS, read_tensors, write_tensors
from qcompile.errors import ArtifactError
from qcompile.modules import inner_tensors, linears
from qcompile.schemes import SCHEMES, Seen, Settings

CPU = torch.device("cpu")


class Tied(nn.Module):
    """Two names for one tensor, and a parameter at the root."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, 16)
        self.head = nn.Linear(16, 32, bias=False)
        self.head.weight = self.embed.weight
        self.scale_shift_table = nn.Parameter(torch.randn(2, 16))


class Mixed(nn.Module):
    """Linears, a convolution, buffers of both kinds and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.conv = nn.Conv2d(16, 32, 3)
        self.norm = nn.BatchNorm2d(32)
        self.register_buffer("passing", torch.ones(3), persistent=False)


def make(kind: type[nn.Module], change: Callable[[nn.Module], object] = lambda module: None) -> nn.Module:
    torch.manual_seed(0)
    module = kind().to(torch.bfloat16).requires_grad_(False)
    change(module)
    return module


def on_meta(kind: type[nn.Module], change: Callable[[nn.Module], object] = lambda module: None) -> nn.Module:
    module = make(kind).to("meta")
    if kind is Tied:
        module.head.weight = module.embed.weight
    change(module)
    return module


def quantized(scheme: str) -> Callable[[nn.Module], None]:
    """Quantizes every linear of a module."""

    def change(module: nn.Module) -> None:
        for layer in linears(module).values():
            SCHEMES[scheme].quantize(layer, Settings(32 if SCHEMES[scheme].group_sizes else None), Seen(3.0, 2))

    return change


def assert_equal(loaded: nn.Module, original: nn.Module) -> None:
    found, expected = loaded.state_dict(), original.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert type(found[name]) is type(tensor), name
        for mine, theirs in zip(inner_tensors(found[name]), inner_tensors(tensor), strict=True):
            assert mine.dtype == theirs.dtype, name
            assert mine.stride() == theirs.stride(), name
            assert torch.equal(mine.double(), theirs.double()), name


@pytest.mark.parametrize("scheme", PARAMETERS)
def test_quantized_weights_come_back(scheme: str, tmp_path: Path) -> None:
    module = make(Mixed, quantized(scheme))
    assert SCHEMES[scheme].recognise(module.block[0].weight)
    write_tensors(module, tmp_path / "m")
    loaded = on_meta(Mixed)
    read_tensors(loaded, tmp_path / "m", CPU)
    assert_equal(loaded, module)
    assert SCHEMES[scheme].recognise(loaded.block[0].weight)
    if scheme in HERE:
        x = torch.randn(20, 32).bfloat16()
        assert torch.equal(loaded.block(x), module.block(x))


def test_memory_layout_comes_back(tmp_path: Path) -> None:
    def channels_last(module: nn.Module) -> None:
        module.conv.to(memory_format=torch.channels_last)

    module = make(Mixed, channels_last)
    write_tensors(module, tmp_path / "m")
    loaded = on_meta(Mixed, channels_last)
    read_tensors(loaded, tmp_path / "m", CPU)
    assert_equal(loaded, module)
    assert loaded.conv.weight.is_contiguous(memory_format=torch.channels_last)
    row_major = on_meta(Mixed)
    read_tensors(row_major, tmp_path / "m", CPU)
    assert row_major.conv.weight.is_contiguous()


def test_shards(tmp_path: Path) -> None:
    module = make(Mixed, quantized("int8_dynamic"))
    write_tensors(module, tmp_path / "m", max_shard_bytes=3000)
    files = sorted(path.name for path in (tmp_path / "m").glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"{WEIGHTS}-00001-of-{len(files):05}.safetensors"
    assert (tmp_path / "m" / f"{WEIGHTS}.safetensors.index.json").is_file()
    loaded = on_meta(Mixed)
    read_tensors(loaded, tmp_path / "m", CPU)
    assert_equal(loaded, module)


def test_parts_of_one_tensor_in_two_shards(tmp_path: Path) -> None:
    module = make(Mixed, quantized("int8_dynamic"))
    write_tensors(module, tmp_path / "m", max_shard_bytes=1)
    loaded = on_meta(Mixed)
    read_tensors(loaded, tmp_path / "m", CPU)
    assert_equal(loaded, module)


class Copies(TorchDispatchMode):
    """Counts the bytes of tensors that were made while it is on, and at most how many of them there were at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {
            tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs)) if type(tensor) is Tensor
        }
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if type(tensor) is Tensor and tensor.untyped_storage().data_ptr() not in before | self.known.keys():
                memory = tensor.untyped_storage()
                self.now += memory.nbytes()
                self.most = max(self.most, self.now)
                self.known[memory.data_ptr()] = weakref.finalize(
                    memory, self.forget, memory.data_ptr(), memory.nbytes()
                )
        return result

    def forget(self, address: int, size: int) -> None:
        del self.known[address]
        self.now -= size


@pytest.mark.parametrize("scheme", ["int8_dynamic", "float8_weight_only", "quanto_int8"])
def test_one_file_at_a_time_is_copied(scheme: str, tmp_path: Path) -> None:
    """Of a model that just fits the GPU there is no room for another copy."""
    module = nn.Sequential(*(nn.Linear(64, 64) for _ in range(16))).requires_grad_(False)
    quantized(scheme)(module)
    with Copies() as copies:
        write_tensors(module, tmp_path / "m", max_shard_bytes=10_000)
    assert len(list((tmp_path / "m").glob("*.safetensors"))) >= 8
    assert copies.most <= 10_000 + 5_000, "a file, and a layer that is being described"


def test_tensors_that_share_memory_are_stored_apart(tmp_path: Path) -> None:
    whole = torch.randn(16, 16)
    module = nn.Module()
    module.first, module.second = nn.Linear(16, 16), nn.Linear(16, 16)
    module.first.weight, module.second.weight = nn.Parameter(whole), nn.Parameter(whole.t())
    write_tensors(module, tmp_path / "m")
    with safe_open(tmp_path / "m" / f"{WEIGHTS}.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("first.weight"), whole)
        assert torch.equal(file.get_tensor("second.weight"), whole.t())


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path: Path) -> None:
    module = make(Tied)
    write_tensors(module, tmp_path / "m")
    with safe_open(tmp_path / "m" / f"{WEIGHTS}.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["embed.weight", "scale_shift_table"]
    loaded = on_meta(Tied)
    read_tensors(loaded, tmp_path / "m", CPU)
    assert_equal(loaded, module)
    assert loaded.head.weight is loaded.embed.weight
    assert isinstance(loaded.head.weight, nn.Parameter)
    write_tensors(loaded, tmp_path / "again")
    assert (tmp_path / "again" / f"{WEIGHTS}.safetensors").read_bytes() == (
        tmp_path / "m" / f"{WEIGHTS}.safetensors"
    ).read_bytes()


def test_a_view_of_a_larger_tensor_is_stored_alone(tmp_path: Path) -> None:
    whole = torch.randn(4, 16)
    module = nn.Module()
    module.first, module.second = nn.Linear(16, 2), nn.Linear(16, 2)
    module.first.weight, module.second.weight = nn.Parameter(whole[:2]), nn.Parameter(whole[2:])
    write_tensors(module, tmp_path / "m")
    with safe_open(tmp_path / "m" / f"{WEIGHTS}.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("second.weight"), whole[2:])


def test_same_tensors_same_bytes(tmp_path: Path) -> None:
    module = make(Mixed, quantized("int8_dynamic"))
    contents = set()
    for number in range(8):
        write_tensors(module, tmp_path / str(number))
        contents.add((tmp_path / str(number) / f"{WEIGHTS}.safetensors").read_bytes())
    assert len(contents) == 1


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    write_tensors(make(Mixed), tmp_path)
    (tmp_path / "more.safetensors").write_bytes((tmp_path / f"{WEIGHTS}.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match="is in another file too") as caught:
        read_tensors(on_meta(Mixed), tmp_path, CPU)
    assert caught.value.fault == "bad_tensors"


def test_message_says_what_is_missing_and_what_to_do(tmp_path: Path) -> None:
    write_tensors(make(Tied), tmp_path)
    with pytest.raises(
        ArtifactError, match=r"tensors are missing \(block\.0\.bias, .*2 tensors are too many.*qcompile apply"
    ):
        read_tensors(on_meta(Mixed), tmp_path, CPU)


class Odd(torch.Tensor):
    """A tensor class that torchao does not know."""


def test_a_class_without_a_safetensors_form_is_refused(tmp_path: Path) -> None:
    module = nn.Module()
    module.layer = nn.Module()
    module.layer.register_buffer("weight", torch.ones(2).as_subclass(Odd))
    with pytest.raises(ArtifactError, match="Choose another scheme"):
        write_tensors(module, tmp_path / "m")
