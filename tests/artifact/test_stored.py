"""Files read ahead give the tensors that reading them one by one gives."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from qcompile.artifact.stored import read_ahead, read_stored
from qcompile.errors import ArtifactError

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool, torch.int64, torch.uint8)


def write(folder: Path, tensors: dict[str, torch.Tensor], name: str = "a") -> None:
    save_file(tensors, folder / f"{name}.safetensors", metadata={f"of {name}": "kept"})


@given(
    parts=st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3)), min_size=1, max_size=6),
    long_name=st.integers(1, 40),
)
def test_the_same_tensors(tmp_path_factory: pytest.TempPathFactory, parts: list, long_name: int) -> None:
    """Whatever the header's length and the sizes before a tensor, so that it may begin anywhere in its file."""
    folder = tmp_path_factory.mktemp("stored")
    tensors = {f"{'n' * long_name}{at}": torch.randn(size).to(dtype) for at, (dtype, size) in enumerate(parts)}
    write(folder, tensors)
    ahead = read_ahead(folder, CPU)
    assert ahead.keys() == {"a.safetensors"}
    found, plain = read_stored(folder, CPU, ahead), read_stored(folder, CPU)
    assert found.described == plain.described
    assert found.tensors.keys() == plain.tensors.keys() == tensors.keys()
    for name, tensor in found.tensors.items():
        assert (tensor.dtype, tensor.shape) == (plain.tensors[name].dtype, plain.tensors[name].shape)
        assert torch.equal(tensor.double(), plain.tensors[name].double())


def test_each_tensor_has_memory_of_its_own(tmp_path: Path) -> None:
    """Not a piece of a file's: kernels want it aligned, and it has to go when its tensor does."""
    write(tmp_path, {"odd": torch.ones(3, dtype=torch.int8), "x": torch.randn(8), "y": torch.randn(4, 4).bfloat16()})
    for tensor in read_stored(tmp_path, CPU, read_ahead(tmp_path, CPU)).tensors.values():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
        assert tensor.data_ptr() % 64 == 0


def test_files_are_taken_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, {f"{name}.weight": torch.randn(2)}, name)
    ahead = read_ahead(tmp_path, CPU)
    assert len(ahead) == 2
    del ahead["a.safetensors"]  # what is not there is read from its file
    found = read_stored(tmp_path, CPU, ahead)
    assert found.tensors.keys() == {"a.weight", "b.weight"}
    assert found.described == {"of a": "kept", "of b": "kept"}
    assert not ahead


@pytest.mark.parametrize("content", [b"", b"no safetensors file", b"\xff" * 64], ids=["empty", "text", "huge header"])
def test_a_broken_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.safetensors: not a safetensors file: .*do not use this artifact"):
        read_stored(tmp_path, CPU, read_ahead(tmp_path, CPU))


def test_a_name_in_two_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, {"weight": torch.randn(2)}, name)
    with pytest.raises(ArtifactError, match=r"b\.safetensors: weight is in another file too"):
        read_stored(tmp_path, CPU, read_ahead(tmp_path, CPU))


@pytest.mark.parametrize("filler", range(0, 64, 8))
def test_tensors_begin_where_kernels_may_load_aligned_vectors(tmp_path: Path, filler: int) -> None:
    tensors = {"odd": torch.ones(3, dtype=torch.int8), "weight": torch.arange(64, dtype=torch.int8).view(8, 8)}
    save_file(tensors, tmp_path / "a.safetensors", {"filler": "x" * filler})
    found = read_stored(tmp_path, torch.device("cpu")).tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert [tensor.data_ptr() % 64 for tensor in found.values()] == [0, 0]
