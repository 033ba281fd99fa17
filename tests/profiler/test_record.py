"""What is made of the profiler's events. GPU events are made by hand here; see tests/gpu for real ones."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType

from qcompile.profiler.kernels import PACKAGE_MARK
from qcompile.profiler.record import Recording, _cpu_runs, _gpu_runs, record


def operator(name: str, ms: float = 0.0, parent: Any = None, kernels: tuple[tuple[str, float], ...] = ()) -> Any:
    found = [SimpleNamespace(name=kernel, duration=1e3 * value) for kernel, value in kernels]
    return SimpleNamespace(
        name=name, device_type=DeviceType.CPU, self_cpu_time_total=1e3 * ms, cpu_parent=parent, kernels=found
    )


def kernel(name: str, ms: float, annotation: bool = False) -> Any:
    time_range = SimpleNamespace(elapsed_us=lambda: 1e3 * ms)
    return SimpleNamespace(
        name=name, device_type=DeviceType.CUDA, is_user_annotation=annotation, time_range=time_range, kernels=[]
    )


ELEMENTWISE = "void at::native::vectorized_elementwise_kernel<4, at::native::MulFunctor<float>>"
COPY = "void at::native::elementwise_kernel<128, 4, at::native::direct_copy_kernel_cuda>"


def test_kernels_are_counted_once_and_named_by_their_operators() -> None:
    package = operator(f"{PACKAGE_MARK}Block", kernels=(("nvjet_tst", 3.0), (f"{PACKAGE_MARK}Block", 9.0)))
    quantize = operator("torchao::quantize_affine")
    events = [
        package,
        quantize,
        operator("aten::mul", parent=quantize, kernels=((ELEMENTWISE, 1.0),)),
        operator("aten::mul", kernels=((ELEMENTWISE, 2.0),)),
        operator("aten::copy_", parent=operator("aten::rms_norm"), kernels=((COPY, 4.0),)),
        kernel("nvjet_tst", 3.0),
        kernel(ELEMENTWISE, 1.0),
        kernel(ELEMENTWISE, 2.0),
        kernel(COPY, 4.0),
        kernel("flash_fwd_kernel", 5.0),
        kernel(f"{PACKAGE_MARK}Block", 9.0, annotation=True),
        kernel("ProfilerStep#3", 9.0),
    ]
    assert sorted(_gpu_runs(events)) == sorted(
        [
            ("nvjet_tst", "matmul", 3.0),
            (ELEMENTWISE, "quantization", 1.0),
            (ELEMENTWISE, "other", 2.0),
            (COPY, "normalization", 4.0),
            ("flash_fwd_kernel", "attention", 5.0),
        ]
    )


def test_an_operator_belongs_to_the_one_around_it() -> None:
    attention = operator("aten::scaled_dot_product_attention", 1.0)
    package = operator(f"{PACKAGE_MARK}Block", 0.5)
    events = [
        attention,
        operator("aten::bmm", 2.0, attention),
        package,
        operator("aten::addmm", 3.0, package),
        operator("## Call CompiledFxGraph fjoq ##", 9.0),
    ]
    assert [(name, group) for name, group, _ in _cpu_runs(events)] == [
        ("aten::scaled_dot_product_attention", "attention"),
        ("aten::bmm", "attention"),
        (f"{PACKAGE_MARK}Block", "compiled, not split up"),
        ("aten::addmm", "matmul"),
    ]


def test_a_real_recording() -> None:
    left, right = torch.ones(64, 64), torch.ones(64, 64)
    calls = []

    def step() -> None:
        calls.append(torch.mm(left, right))

    found = record(step, 4, torch.device("cpu"))
    (matmul,) = [group for group in found.groups if group.name == "matmul"]
    assert (matmul.costliest[0].count, matmul.costliest[0].name) == (4, "aten::mm")
    assert len(calls) == 2 + 4 + 4
    assert 0 < found.kernel_ms <= found.profiled_step_ms


def test_time_outside_of_kernels() -> None:
    found = Recording(2, 3.0, 5.0, ())
    assert (found.outside_ms(on_gpu=True), found.outside_ms(on_gpu=False)) == pytest.approx((3.0, 5.0))
