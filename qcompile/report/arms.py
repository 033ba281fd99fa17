"""How the arms of the benchmark are called and coloured in a report."""

from collections.abc import Iterable

LABELS = {
    "eager": "original, eager",
    "jit_bf16": "original, compiled",
    "jit_from_original": "quantized anew (JIT)",
    "eager_quantized": "quantized, eager",
    "jit": "quantized, compiled (JIT)",
    "aot": "quantized, AoT",
    "aot_graphs": "AoT, CUDA graphs",
}
"""Words for arms, in the order of charts; other arms are artifacts given with --against, under their folder's name."""
CONTROL = "jit_bf16"
SUBJECTS = ("aot", "jit", "eager_quantized")
"""What a report is about: the first of these that was measured."""


def label_of(arm: str) -> str:
    """Words for an arm."""
    return LABELS.get(arm, arm)


def colour_of(arm: str) -> str:
    """The page's colour of an arm: the original's, the control's, the artifact's as it loads, its weights run in
    another way, or other artifacts."""
    if arm not in LABELS:
        return "other"
    return {"eager": "original", CONTROL: "control", "aot": "artifact", "aot_graphs": "artifact"}.get(arm, "weights")


def in_order(arms: Iterable[str]) -> list[str]:
    """Each arm once: known ones in the order of `LABELS`, then the others as they come."""
    found = list(dict.fromkeys(arms))
    return [arm for arm in LABELS if arm in found] + [arm for arm in found if arm not in LABELS]
