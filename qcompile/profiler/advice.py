"""What to do about what a profile shows."""

import re
from collections.abc import Iterable, Mapping

from qcompile.profiler.kernels import Kernel

COMPILE_IT = "compiled code fuses these into the kernels around them: what a compile step adds and --eager leaves out"
FUSE_MORE = "compile the whole component (scope: full), so that these are fused with more of what is around them"

_BREAKS = (
    (
        re.compile(r"(?:recompile|cache_size)_limit", re.IGNORECASE),
        "too many compilations of one function: declare fewer shapes, compile with dynamic: true, or use mode: aot",
    ),
    (
        re.compile(r"generic_jump|data.dependent", re.IGNORECASE),
        "don't branch on values: use torch.where, or decide before the model is called",
    ),
    (
        re.compile(r"\.item\(\)|\.tolist\(\)|_local_scalar_dense"),
        "keep the value in a tensor; .item() hands it to Python and waits for the GPU",
    ),
    (
        re.compile(r"\bprint\b|logg(?:er|ing)", re.IGNORECASE),
        "take the output out of forward, or write it where not compiling",
    ),
    (re.compile(r"numpy|\.numpy\(\)", re.IGNORECASE), "use torch instead of NumPy inside of forward"),
    (
        re.compile(r"torch\._dynamo\.(?:disable|graph_break)|skip.*function|in skip_files", re.IGNORECASE),
        "the function is kept out of graphs on purpose: call it outside of forward, or replace it",
    ),
    (
        re.compile(r"dynamic shape|nonzero|masked_select", re.IGNORECASE),
        "the size of the result depends on values: use a mask of fixed size",
    ),
)
_FREQUENCIES = re.compile(r"(?:triton|cpp)_(?:[a-z]+_)?fused_(?:.*_)?cos_(?:.*_)?sin_")
_HINT = re.compile(r"^\s*Hint: (.+)$", re.MULTILINE)


def for_break(reason: str) -> str:
    """What to do about a graph break, by torch's own text of its reason."""
    known = next((advice for pattern, advice in _BREAKS if pattern.search(reason)), None)
    hints = [hint for hint in _HINT.findall(reason) if "report an issue" not in hint]
    return known or (f"torch says: {hints[0]}" if hints else "move this line out of the compiled module")


def for_recompilation(guard: str, dynamic: bool | None) -> str:
    """What to do about a recompilation, by the guard that failed.

    Args:
        guard: in torch's words.
        dynamic: how the module is compiled.
    """
    if "stride mismatch" in guard:
        return (
            "the same tensor comes in another layout (a slice of a larger one, or another size), which is compiled by "
            "itself. A copy with .contiguous() before the call spares it"
        )
    if "size mismatch" in guard:
        if dynamic:
            return "the size is fixed by something in the module, so dynamic: true does not help: declare fewer shapes"
        return (
            "each size has code of its own. mode: aot compiles all declared shapes when the recipe is applied; "
            "dynamic: true makes one code for all of them"
        )
    if "dtype" in guard or "dispatch key" in guard:
        return "call it with one dtype and device; cast inputs before the model"
    if "grad" in guard.lower():
        return "call it under torch.no_grad() always or never"
    if "==" in guard or "___check" in guard:
        return "a plain value or object that differs between calls or layers is compiled in: pass it as a tensor"
    return "call it the same way every time, or leave the module out of the compile step"


def for_synchronization(file: str, line: str, every_step: bool) -> str:
    """What to do about a synchronization.

    Args:
        file: where it is.
        line: the source line.
        every_step: whether it comes at every denoising step.
    """
    if not every_step:
        return "once an image costs little; leave it"
    if "torchao" in file and "__repr__" in line:
        return (
            "torchao prints its input at every int8 product that runs eagerly, to see whether it is being traced. "
            "Compiled code does not: judge int8 by compiled code only"
        )
    if "schedul" in file:
        return "add the step tune_scheduler to the recipe: it keeps noise levels on the CPU"
    return "read no value of a tensor inside of the loop (.item(), .cpu(), if, print, a mask as index)"


def for_groups(shares: Mapping[str, float], on_gpu: bool, compiled: bool, whole: bool = False) -> list[str]:
    """What to do about groups of kernels that take much of a step.

    Args:
        shares: part of the step's time by group, `outside` for what is in no kernel.
        on_gpu: whether kernels run on a GPU.
        compiled: whether compiled code ran.
        whole: whether it is the denoiser as one graph.
    """
    found = []
    for group, at_least, advice in _groups(on_gpu, compiled):
        if whole and advice == FUSE_MORE:
            continue
        share = shares.get(group, 0.0)
        if share >= at_least:
            found.append(f"{group} takes {share:.0%}: {advice}")
    return found


def for_frequencies(kernels: Iterable[Kernel], num_steps: int, step_ms: float) -> list[str]:
    """What to do where one graph computes the frequencies of rotary embeddings again for each block.

    inductor writes what is cheap by its count of operators into every kernel that reads it; cosine and sine in float64
    are not cheap. In a step of FLUX.1-dev on an H100 such kernels took 21.6 of 114 ms, and those in their place 4.6 of
    98 by blocks (tests/gpu/RECORD.md). `qcompile.aot.once` prevents it; artifacts made before keep their code.

    Args:
        kernels: the costliest, of all steps.
        num_steps: how many.
        step_ms: milliseconds of one.
    """
    again = [kernel for kernel in kernels if _FREQUENCIES.search(kernel.name) and kernel.count >= 2 * num_steps]
    share = sum(kernel.ms for kernel in again) / num_steps / step_ms
    if share < 0.05:
        return []
    times = sum(kernel.count for kernel in again) // num_steps
    return [
        f"kernels that compute cosines and sines of the rotary embedding anew, {times} times a step, take {share:.0%}: "
        "apply the recipe anew, since qcompile has them computed once by now, or compile by blocks (scope: blocks)"
    ]


def _groups(on_gpu: bool, compiled: bool) -> list[tuple[str, float, str]]:
    """(group, share of the step from which it is worth a word, advice)."""
    faster_products = (
        "int8_dynamic or a float8 scheme with quantized activations makes these products faster"
        if on_gpu
        else "int8_dynamic makes these products faster where the processor has int8 instructions"
    )
    return [
        ("matmul", 0.5, f"{faster_products}; `tuning: max-autotune-no-cudagraphs` lets the compiler search kernels"),
        ("attention", 0.25, "try another implementation with the step attention (backend: …)"),
        (
            "quantization",
            0.15,
            "leave out layers that gain less than this costs, those with few rows or features (scheme: autoquant "
            "measures each); a weight-only scheme quantizes no activations, and has no faster products either"
            if compiled
            else COMPILE_IT,
        ),
        ("normalization", 0.1, FUSE_MORE if compiled else COMPILE_IT),
        ("convolution", 0.3, "try the steps channels_last and swap_conv1x1"),
        (
            "copies",
            0.1,
            "try fuse_qkv and channels_last; a layout that fits the next kernel needs no copy"
            if compiled
            else COMPILE_IT,
        ),
        ("other", 0.3, FUSE_MORE if compiled else COMPILE_IT),
        (
            "outside",
            0.15,
            "the GPU waits for Python: CUDA graphs (mode: jit, scope: full, tuning: reduce-overhead) or a larger batch"
            if on_gpu
            else "Python and dispatch: compile larger pieces (scope: full)",
        ),
    ]
