"""How the arms of the benchmark are called and coloured in a report."""

from collections.abc import Callable, Iterable

Words = Callable[[str], str]
"""Gives the words for an arm."""
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
UNQUANTIZED = {
    "jit_from_original": "recipe anew (JIT)",
    "eager_quantized": "artifact, eager",
    "jit": "artifact, compiled (JIT)",
    "aot": "artifact, AoT",
}
"""What they are called where nothing was quantized."""
CONTROL = "jit_bf16"
SUBJECTS = ("aot", "jit", "eager_quantized")
"""What a report is about: the first of these that was measured."""


def words_of(quantized: bool) -> Words:
    """Words for the arms of an artifact, whose recipe quantized weights or did not."""
    labels = LABELS if quantized else LABELS | UNQUANTIZED
    return lambda arm: labels.get(arm, arm)


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
