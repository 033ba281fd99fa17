"""The layer map: which scheme where, layers that differ in nothing but their index as one row."""

from collections.abc import Sequence
from dataclasses import dataclass

from qcompile.change import Change
from qcompile.fold import fold

MAX_BLOCKS = 200
"""More than any model has; a manifest may name any index."""
WEIGHTS = "quantize"
"""The kind of step that decides how a layer's weights are stored."""


@dataclass(frozen=True)
class Group:
    """Layers of one component to which the same was done."""

    component: str
    layers: tuple[str, ...]
    """Folded names: `transformer_blocks.{0..18}.attn.to_q`."""
    count: int
    scheme: str | None
    """None where no step quantized them."""
    reason: str
    """Why not; empty where one did."""
    rows: tuple[int, ...]
    features: tuple[int, int] | None
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class Action:
    """What a step that is no quantization did."""

    step: int
    kind: str
    component: str
    action: str
    count: int
    layers: tuple[str, ...]


def layer_map(changes: Sequence[Change]) -> list[Group]:
    """Every layer that a quantize step looked at, once, with what came of it in the end."""
    layers: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        if change.kind == WEIGHTS:
            layers.setdefault((change.component, change.module), []).append(change)
    groups: dict[tuple[object, ...], list[list[Change]]] = {}
    for (component, module), history in layers.items():
        first = history[0]
        key = (component, _role(module), _scheme(history), _reason(history), first.rows, first.features)
        groups.setdefault(key, []).append(history)
    return [_group(members) for members in groups.values()]


def has_quantized(groups: Sequence[Group]) -> bool:
    """Whether the weights of any layer were quantized: a recipe may only compile."""
    return any(group.scheme for group in groups)


@dataclass(frozen=True)
class Blocks:
    """The repeated blocks of one list, as a grid of roles by index."""

    component: str
    name: str
    """Dotted name of the list: `transformer_blocks`."""
    roles: tuple[str, ...]
    """Names inside a block, in the model's order."""
    count: int
    """Blocks, from index 0."""
    schemes: dict[tuple[str, int], str | None]
    """(role, index) to its scheme, None where it has none; layers that no step looked at are not in it."""


def block_lists(groups: Sequence[Group], changes: Sequence[Change]) -> list[Blocks]:
    """The lists of two or more blocks in which some layer was quantized."""
    quantized = {group.component for group in groups if group.scheme}
    found: dict[tuple[str, str], dict[tuple[str, int], list[Change]]] = {}
    for change in changes:
        place = _place(change.module)
        if change.kind == WEIGHTS and change.component in quantized and place:
            name, index, role = place
            found.setdefault((change.component, name), {}).setdefault((role, index), []).append(change)
    lists = []
    for (component, name), cells in found.items():
        schemes = {cell: _scheme(history) for cell, history in cells.items()}
        count = 1 + max(index for _, index in cells)
        if 1 < count <= MAX_BLOCKS and any(schemes.values()):
            lists.append(Blocks(component, name, tuple(dict.fromkeys(role for role, _ in cells)), count, schemes))
    return lists


def _place(module: str) -> tuple[str, int, str] | None:
    """(list, index, role) of a layer: its first part that is a number is the index."""
    parts = module.split(".")
    for position, part in enumerate(parts[:-1]):
        if position and part.isdecimal() and len(part) < 6:
            return ".".join(parts[:position]), int(part), ".".join(parts[position + 1 :])
    return None


def other_actions(changes: Sequence[Change]) -> list[Action]:
    """What the other steps did, one row a step, component and action."""
    found: dict[tuple[int, str, str, str], list[str]] = {}
    for change in changes:
        if change.kind != WEIGHTS and change.action is not None:
            key = (change.step, change.kind, change.component, change.action)
            found.setdefault(key, []).append(change.module)
    return [
        Action(step, kind, component, action, len(names), tuple(name or component for name, _ in fold(names)))
        for (step, kind, component, action), names in found.items()
    ]


def bytes_by_scheme(groups: Sequence[Group]) -> dict[str, tuple[int, int, int]]:
    """(layers, bytes before, bytes after) of each scheme, and of `not quantized`."""
    found: dict[str, tuple[int, int, int]] = {}
    for group in groups:
        name = group.scheme or "not quantized"
        count, before, after = found.get(name, (0, 0, 0))
        found[name] = (count + group.count, before + group.bytes_before, after + group.bytes_after)
    return found


def _role(module: str) -> str:
    """A layer's name without the indices of blocks."""
    return ".".join("*" if part.isdecimal() else part for part in module.split("."))


def _scheme(history: Sequence[Change]) -> str | None:
    actions = [change.action for change in history if change.action is not None]
    return " + ".join(actions) or None


def _reason(history: Sequence[Change]) -> str:
    if _scheme(history) is not None:
        return ""
    return "; ".join(dict.fromkeys(change.reason for change in history if change.reason))


def _group(members: Sequence[Sequence[Change]]) -> Group:
    first = members[0][0]
    return Group(
        component=first.component,
        layers=tuple(name or first.component for name, _ in fold(history[0].module for history in members)),
        count=len(members),
        scheme=_scheme(members[0]),
        reason=_reason(members[0]),
        rows=first.rows,
        features=first.features,
        bytes_before=sum(history[0].bytes_before for history in members),
        bytes_after=sum(history[-1].bytes_after for history in members),
    )
