"""Keeps inductor from computing the same cosines in every block of a model that is compiled as one graph.

Inductor writes a value of few operations into every kernel that reads it, however many there are; it weighs numbers of
operations and reads, and takes a cosine in float64 for no more than an addition (`StorageBox.should_realize_on_reuse`).
The rotary frequencies of a transformer are such a value: two small tensors that depend on positions alone and that all
57 blocks of FLUX read, twice each. By blocks they are arguments; as one graph every kernel that turns a query or a key
computed them anew, for every head. The pass marks such values, and inductor keeps those in buffers.

Nothing is marked that mixes such a function with an activation. What a block computes of those is read at few places,
and inductor is right to fuse it there.
"""

from operator import getitem
from typing import Any

import torch
from torch import fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

FEW = 4
"""Up to so many readers a value may be computed at each of them, the number that inductor has for reads."""

MARK = "inductor_realize_to_strides"
"""Key of a node's meta by which inductor's own passes ask that the value be kept (`GraphLowering.run_node`)."""

_aten, _prims = torch.ops.aten, torch.ops.prims

_COSTLY = {
    *(_aten.cos.default, _aten.sin.default, _aten.tan.default, _aten.tanh.default, _aten.atan2.default),
    *(_aten.exp.default, _aten.exp2.default, _aten.expm1.default, _aten.sigmoid.default, _aten.erf.default),
    *(_aten.log.default, _aten.log2.default, _aten.log10.default, _aten.log1p.default),
    *(_aten.pow.Scalar, _aten.pow.Tensor_Tensor),  # with a number as exponent it is mostly a square
}
"""Many instructions each, where a product is one; in float64 more, of which most GPUs do few at a time."""

_MOVES = {
    *(_aten.cat.default, _aten.constant_pad_nd.default, _aten.repeat.default, _aten.flip.default, _aten.roll.default),
    *(_aten.index.Tensor, _aten.index_select.default, _aten.gather.default, _aten.embedding.default),
    *(_aten._to_copy.default, _prims.device_put.default, _aten.slice_scatter.default, _aten.select_scatter.default),
    *(_aten.full.default, _aten.full_like.default, _aten.scalar_tensor.default, _prims.iota.default),
}
"""Besides views and what torch tags pointwise, what inductor writes into the kernels that read it."""


class KeepShared(CustomGraphPass):  # type: ignore[misc]
    """A pass over the graph that inductor is about to lower. It changes no operation.

    Values stay as they are, too, with the casts that `options.BASE` has inductor emulate: where those are turned off, a
    value of low precision is rounded where it is kept.
    """

    def __call__(self, graph: fx.Graph) -> None:
        for node in shared(graph):
            node.meta[MARK] = True

    def uuid(self) -> Any:
        """Part of the key under which torch caches compiled graphs; without one it would cache none."""
        return get_hash_for_files((__file__,))


KEEP_SHARED = KeepShared()
"""One for all compilations: torch.compile compares options to know whether code it has serves."""


def shared(graph: fx.Graph) -> list[fx.Node]:
    """Nodes that carry a costly function to more than a FEW readers, with no activation mixed in."""
    costly: dict[fx.Node, bool | None] = {}
    for node in graph.nodes:
        costly[node] = _costly(node, [costly[given] for given in node.all_input_nodes])
    return [node for node in graph.nodes if costly[node] and not _is_view(node) and len(_readers(node)) > FEW]


def _costly(node: fx.Node, given: list[bool | None]) -> bool | None:
    """Whether a reader of `node` would compute a costly function again; None where an activation is mixed in.

    An activation is what comes from a kernel of its own, a product of matrices for one: a buffer already. A costly
    function of an activation counts, since frequencies can be such a product; what mixes it with another does not.
    """
    if node.op in ("placeholder", "get_attr"):
        return False
    if node.target in _COSTLY:
        return True
    pointwise = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
    if None in given or not (pointwise or node.target in _MOVES or _is_view(node)):
        return None
    return any(given)


def _is_view(node: fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.target is getitem
    return any(argument.alias_info is not None for argument in node.target._schema.arguments)


def _readers(node: fx.Node) -> set[fx.Node]:
    """What reads `node`, itself or a view of it."""
    readers: set[fx.Node] = set()
    for user in node.users:
        readers |= _readers(user) if _is_view(user) else {user}
    return readers
