import pytest

from qcompile.profiler.advice import (
    COMPILE_IT,
    FUSE_MORE,
    for_break,
    for_frequencies,
    for_groups,
    for_recompilation,
    for_synchronization,
)
from qcompile.profiler.kernels import Kernel


@pytest.mark.parametrize(
    ("reason", "piece"),
    [
        ("Data-dependent branching\n  Explanation: ...", "torch.where"),
        ("generic_jump TensorVariable()", "torch.where"),
        ("Unsupported Tensor.item() call with capture_scalar_outputs=False", "keep the value in a tensor"),
        ("Failed to trace builtin operator\n  Explanation: ... builtin operator `print`", "take the output out"),
        ("Call to `torch._dynamo.graph_break()`", "kept out of graphs on purpose"),
        ("Odd\n  Hint: Please report an issue to PyTorch.\n  Hint: Use tuples.", "torch says: Use tuples."),
        ("Odd", "move this line out of the compiled module"),
    ],
)
def test_breaks(reason: str, piece: str) -> None:
    assert piece in for_break(reason)


@pytest.mark.parametrize(
    ("guard", "dynamic", "piece"),
    [
        ("tensor 'x' size mismatch at index 0. expected 4, actual 6", False, "dynamic: true makes one code"),
        ("tensor 'x' size mismatch at index 0. expected 4, actual 6", True, "declare fewer shapes"),
        ("tensor 'x' stride mismatch at index 0. expected 4, actual 6", False, ".contiguous()"),
        ("tensor 'x' dtype mismatch. expected BFloat16, actual Float", False, "one dtype"),
        ("GLOBAL_STATE changed: grad_mode", False, "torch.no_grad()"),
        ("self.gain == 1.0", False, "pass it as a tensor"),
        ("something new", False, "the same way every time"),
    ],
)
def test_recompilations(guard: str, dynamic: bool, piece: str) -> None:
    assert piece in for_recompilation(guard, dynamic)


@pytest.mark.parametrize(
    ("file", "line", "every_step", "piece"),
    [
        ("diffusers/schedulers/scheduling_euler_discrete.py", "index.item()", True, "tune_scheduler"),
        ("diffusers/schedulers/scheduling_euler_discrete.py", "index.item()", False, "leave it"),
        ("diffusers/pipelines/flux/pipeline_flux.py", "if latents.max() > 1:", True, "inside of the loop"),
        ("torchao/kernel/intmm.py", 'if "FakeTensor" in input.__repr__():', True, "judge int8 by compiled code"),
    ],
)
def test_synchronizations(file: str, line: str, every_step: bool, piece: str) -> None:
    assert piece in for_synchronization(file, line, every_step)


def test_groups_that_take_little_are_not_spoken_of() -> None:
    assert for_groups({"matmul": 0.49, "attention": 0.24, "quantization": 0.14, "outside": 0.13}, True, True) == []


def test_groups_that_take_much() -> None:
    (first, second) = for_groups({"attention": 0.4, "outside": 0.4}, True, True)
    assert first.startswith("attention takes 40%: ")
    assert "CUDA graphs" in second
    (only,) = for_groups({"normalization": 0.2}, False, False)
    assert only == f"normalization takes 20%: {COMPILE_IT}"


def test_one_graph_is_not_told_to_become_one_graph() -> None:
    shares = {"normalization": 0.2, "other": 0.4, "outside": 0.2}
    assert [line.endswith(FUSE_MORE) for line in for_groups(shares, True, True)] == [True, True, False]
    (outside,) = for_groups(shares, True, True, whole=True)
    assert outside.startswith("outside")
    assert len(for_groups(shares, True, False, whole=True)) == 3  # eager code has all to gain


ROTARY = "triton_red_fused__to_copy_add_cat_clone_cos_expand_mean_mul_rsqrt_sin_split_stack_29"


def frequencies(name: str = ROTARY, count: int = 190, ms: float = 67.3) -> list[str]:
    return for_frequencies([Kernel(name, "normalization", count, ms)], num_steps=5, step_ms=113.5)


@pytest.mark.parametrize("name", [ROTARY, "triton_poi_fused_cos_mul_sin_5", "cpp_fused_add_cos_sin_5"])
def test_frequencies_that_each_block_computes_anew(name: str) -> None:
    (line,) = frequencies(name)
    assert "38 times a step, take 12%" in line
    assert "apply the recipe anew" in line
    assert "scope: blocks" in line


@pytest.mark.parametrize(
    "harmless",
    [
        {"count": 5},  # once a step
        {"ms": 5.0},
        {"name": "triton_red_fused__to_copy_mean_pow_rsqrt_split_29"},
        {"name": "void cos_and_sin_fused_cos_kernel"},
    ],
)
def test_frequencies_that_cost_little_or_are_none(harmless: dict) -> None:
    assert frequencies(**harmless) == []
