"""Kernels and operators by name, in the groups people think in."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

OTHER = "other"
COMPILED = "compiled, not split up"
"""Calls of a package whose code does not tell the profiler what it does inside."""
PACKAGE_MARK = "qcompile::package "
"""Beginning of the name under which calls of packages are recorded."""

_FUSED = re.compile(r"(?:^|_)(?:triton|cpp)_(?:([a-z]+)_)?fused_")
"""Generated code names all the operators whose work it does, as in `triton_red_fused__to_copy_amax_0`."""
_TEMPLATE = "tem"
_MOVES = (
    "_to_copy|_unsafe_view|as_strided|cat|clone|constant_pad_nd|copy_?|expand|index|permute|repeat|reshape|select|slice|"
    "split_with_sizes|split|squeeze|stack|transpose|t|unbind|unsqueeze|view"
)
FUSED_GROUPS = (
    (
        "quantization",
        re.compile(r"quantize|choose_qparams|amax|amin|clamp.*_(?:div|maximum|minimum|reciprocal|round)_"),
    ),
    # A mean of squares (`pow`) is one too, where the kernel after it divides by the root.
    ("normalization", re.compile(r"layer_norm|rms_norm|group_norm|batch_norm|rsqrt|var_mean|_mean_(?:.*_)?pow_")),
    ("copies", re.compile(rf"fused_(?:_?(?:{_MOVES})(?=_|$))+(?:_\d+)?$")),
)
"""Groups of generated code, tried in this order. Matrix products and attention in such a name are what the kernel
prepares or follows, not what it computes; only templates compute them."""

GROUPS = (
    (COMPILED, re.compile(rf"^{PACKAGE_MARK}")),
    ("attention", re.compile(r"flash|fmha|sdpa|scaled_dot_product|attention|\battn", re.IGNORECASE)),
    (
        "quantization",
        re.compile(
            r"quantize|choose_qparams|amax|(?:to|_)(?:int8|float8|fp8)\b|(?:float8|int8)_copy_kernel", re.IGNORECASE
        ),
    ),
    ("normalization", re.compile(r"layer_?norm|rms_?norm|group_?norm|batch_?norm|rowwisemoments", re.IGNORECASE)),
    ("convolution", re.compile(r"conv|fprop|dgrad|winograd|implicit_gemm", re.IGNORECASE)),
    (
        "matmul",
        re.compile(
            r"gemm|gemv|nvjet|cublas|cutlass|splitk|matmul|xmma|"
            r"(?:^|[:_])(?:add|b|add?b|int_|scaled_)?mm(?:_out|_dtype)?\b|triton_mm|linear|einsum|(?:^|:)dot$",
            re.IGNORECASE,
        ),
    ),
    (
        "copies",
        re.compile(
            r"memcpy|memset|copy|(?:^|::)(?:clone|contiguous|_?cat|stack|pad|fill_|zero_)$|catarray", re.IGNORECASE
        ),
    ),
)
"""Groups of everything else, tried in this order."""
NAMES = ("matmul", "attention", "quantization", "normalization", "convolution", "copies", OTHER, COMPILED)


@dataclass(frozen=True)
class Kernel:
    """All runs of one kernel, or of one operator on a CPU."""

    name: str
    group: str
    count: int
    ms: float
    """Milliseconds of all runs together."""


@dataclass(frozen=True)
class Group:
    """Kernels of one kind."""

    name: str
    count: int
    ms: float
    costliest: tuple[Kernel, ...]


def group_of(name: str) -> str:
    """The group a kernel or operator belongs to.

    >>> group_of("nvjet_tst_128x256_64x4_2x1_v_bz_coopB_TNT")
    'matmul'
    >>> group_of("triton_red_fused__to_copy_amax_clamp_div_3")
    'quantization'
    """
    fused = _FUSED.search(name)
    if fused is None:
        return next((group for group, pattern in GROUPS if pattern.search(name)), OTHER)
    if fused[1] == _TEMPLATE:
        return "attention" if "attention" in name else "matmul"
    # A trailing underscore, so that the last operator's name ends as all others do.
    return next((group for group, pattern in FUSED_GROUPS if pattern.search(name) or pattern.search(f"{name}_")), OTHER)


def group_kernels(runs: Iterable[tuple[str, str, float]], num_costliest: int = 3) -> list[Group]:
    """Add up single runs.

    Args:
        runs: (name, group, milliseconds) of each.
        num_costliest: how many kernels of a group are kept by name.

    Returns:
        The groups that have any, the costliest first.
    """
    ms: defaultdict[tuple[str, str], float] = defaultdict(float)
    counts: Counter[tuple[str, str]] = Counter()
    for name, group, value in runs:
        ms[group, name] += value
        counts[group, name] += 1
    groups = []
    for name in NAMES:
        members = [Kernel(key[1], name, counts[key], total) for key, total in ms.items() if key[0] == name]
        members.sort(key=lambda kernel: -kernel.ms)
        if members:
            total = sum(kernel.ms for kernel in members)
            count = sum(kernel.count for kernel in members)
            groups.append(Group(name, count, total, tuple(members[:num_costliest])))
    return sorted(groups, key=lambda group: -group.ms)
