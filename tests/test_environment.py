import dataclasses

import pytest

from qcompile.environment import current, rejections

HERE = current("cpu")
GPU = dataclasses.replace(HERE, device="cuda", cuda="13.0", triton="3.6.0", gpu="NVIDIA H200", capability="9.0")


def test_this_machine_is_described() -> None:
    import torch

    assert HERE.torch == torch.__version__
    assert HERE.device == "cpu"
    assert HERE.gpu is None
    if HERE.machine == "x86_64":
        assert "sse2" in HERE.cpu_isa


def test_the_same_environment_has_no_rejections() -> None:
    assert rejections(HERE, HERE) == ()
    assert rejections(GPU, GPU) == ()


@pytest.mark.parametrize("field", ["torch", "torchao", "diffusers", "machine", "system", "device"])
def test_each_compared_field_is_named(field: str) -> None:
    (rejection,) = rejections(dataclasses.replace(HERE, **{field: "other"}), HERE)
    assert (rejection.field, rejection.recorded, rejection.here) == (field, "other", str(getattr(HERE, field)))


@pytest.mark.parametrize("field", ["triton", "cuda", "capability"])
def test_gpu_fields_count_for_gpu_packages_only(field: str) -> None:
    changed = {field: "other"}
    assert [item.field for item in rejections(dataclasses.replace(GPU, **changed), GPU)] == [field]
    assert rejections(dataclasses.replace(HERE, **changed), HERE) == ()


def test_python_and_the_name_of_the_gpu_do_not_count() -> None:
    assert rejections(dataclasses.replace(GPU, python="3.99", gpu="NVIDIA H100"), GPU) == ()


def test_a_processor_may_have_more_but_not_less() -> None:
    more = dataclasses.replace(HERE, cpu_isa=(*HERE.cpu_isa, "avx9000"))
    assert rejections(HERE, more) == ()
    (rejection,) = rejections(more, HERE)
    assert (rejection.field, rejection.recorded) == ("cpu_isa", "avx9000")
