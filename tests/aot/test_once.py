"""Rotary frequencies are computed once for all blocks, and nothing else is kept for the pass."""

import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import fx, nn
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.utils import run_and_get_code
from torch.nn.functional import gelu, rms_norm, scaled_dot_product_attention, silu

from qcompile.aot.export import lift
from qcompile.aot.once import FEW, KEEP_SHARED, MARK, shared
from qcompile.aot.options import BASE, for_compiler
from qcompile.modules import linears
from qcompile.schemes import SCHEMES

FEATURES = 16
ROWS = 24


class Attends(nn.Module):
    """Attention with rotary embedding behind modulation, and a feed-forward layer: a single block of FLUX."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(FEATURES, FEATURES) for _ in range(3))
        self.modulation, self.up, self.down = (nn.Linear(FEATURES, FEATURES) for _ in range(3))

    def forward(
        self, hidden: torch.Tensor, embedded: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        scale = self.modulation(silu(embedded))
        normal = rms_norm(hidden, (FEATURES,)) * (1 + scale) + scale.tanh()
        query, key = (turned(layer(normal)[None], cos, sin) for layer in (self.query, self.key))
        attended = scaled_dot_product_attention(query, key, self.value(normal)[None])[0]
        return hidden + attended + scale * self.down(gelu(self.up(normal), approximate="tanh"))


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    swapped = torch.stack([-imaginary, real], -1).flatten(-2)
    return (x.float() * cos[None] + swapped.float() * sin[None]).to(x.dtype)


class Whole(nn.Module):
    """A row of such blocks behind an embedding of the time, as sinusoids, and one of positions along two axes."""

    def __init__(self, depth: int, axes: int = 2) -> None:
        super().__init__()
        self.time = nn.Linear(FEATURES, FEATURES)
        self.blocks = nn.ModuleList(Attends() for _ in range(depth))
        self.axes = axes

    def frequencies(self, positions: torch.Tensor) -> list[torch.Tensor]:
        size = FEATURES // self.axes
        omega = 1.0 / 10000.0 ** (torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles = [torch.outer(positions[:, axis], omega) for axis in range(self.axes)]
        both = ([f(angle).repeat_interleave(2, dim=1).float() for angle in angles] for f in (torch.cos, torch.sin))
        return [torch.cat(values, dim=-1) if self.axes > 1 else values[0] for values in both]

    def forward(self, hidden: torch.Tensor, time: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor]:
        angle = time[:, None] * torch.exp(torch.arange(FEATURES // 2) * -0.5)
        embedded = self.time(torch.cat([angle.cos(), angle.sin()], dim=-1).to(hidden.dtype))
        cos, sin = self.frequencies(positions)
        for block in self.blocks:
            hidden = block(hidden, embedded, cos, sin)
        return (hidden,)


def make_whole(depth: int, axes: int = 2) -> Whole:
    torch.manual_seed(0)
    return Whole(depth, axes).eval().requires_grad_(False)


def make_call() -> dict[str, torch.Tensor]:
    hidden, positions = torch.randn(ROWS, FEATURES), torch.randint(0, 8, (ROWS, 2)).double()
    return {"hidden": hidden, "time": torch.tensor([0.5]), "positions": positions}


def lowered(module: nn.Module, call: dict[str, torch.Tensor]) -> fx.Graph:
    """The lifted graph in the operations that inductor lowers."""
    return lift(module, call).program.run_decompositions(select_decomp_table()).graph_module.graph


@pytest.mark.parametrize("scheme", [None, "int8_dynamic"])
def test_what_all_blocks_read_is_kept(scheme: str | None) -> None:
    model = make_whole(depth=3)
    if scheme:
        for layer in linears(model.blocks).values():
            SCHEMES[scheme].quantize(layer)
    graph = lowered(model, make_call())
    kept = shared(graph)
    assert [node.target for node in kept] == [torch.ops.aten.cat.default] * 2
    assert [(tuple(node.meta["val"].shape), node.meta["val"].dtype) for node in kept] == [
        ((ROWS, FEATURES), torch.float32)
    ] * 2
    costly = [node for node in graph.nodes if node.target in (torch.ops.aten.cos.default, torch.ops.aten.sin.default)]
    assert len(costly) == 6  # four of positions, two of the time


def test_frequencies_of_few_readers_are_left() -> None:
    assert shared(lowered(make_whole(depth=1), make_call())) == []


def test_a_block_that_is_given_frequencies_is_left() -> None:
    hidden, embedded = torch.randn(ROWS, FEATURES), torch.randn(1, FEATURES)
    call = {"hidden": hidden, "embedded": embedded, "cos": hidden.cos(), "sin": hidden.sin()}
    assert shared(lowered(Attends().eval().requires_grad_(False), call)) == []


Make = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Reads(nn.Module):
    """Gives a value that `make` makes of two tensors to a number of readers."""

    def __init__(self, make: Make, times: int) -> None:
        super().__init__()
        self.make, self.times = make, times

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.make(x, y) * (index + 2) for index in range(self.times))


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (lambda x, y: x.cos(), ["cos"]),
        (lambda x, y: x.cos().reshape(2, 8)[:1], ["cos"]),
        (lambda x, y: x.cos() + y, ["add"]),
        (lambda x, y: torch.cat([x.sin(), torch.ones_like(x)]), ["cat"]),
        (lambda x, y: (x @ y).exp(), ["exp"]),  # angles can be a product of matrices
        (lambda x, y: 2.0**x, ["pow"]),
        (lambda x, y: x + y, []),
        (lambda x, y: x**2, []),
        (lambda x, y: (x @ y) * x.cos(), []),  # an activation
        (lambda x, y: gelu(x @ y), []),
        (lambda x, y: silu(x @ y), []),
        (lambda x, y: (x @ y).softmax(-1), []),
        (lambda x, y: x.cos() @ y, []),
        (lambda x, y: x.cos().amax(-1, keepdim=True), []),
    ],
)
def test_which_values_are_kept(make: Make, kept: list[str]) -> None:
    call = {"x": torch.rand(4, 4), "y": torch.rand(4, 4)}
    found = shared(lowered(Reads(make, FEW + 1), call))
    assert [node.target.overloadpacket.__name__ for node in found] == kept
    assert shared(lowered(Reads(make, FEW), call)) == []


def test_compilers_get_the_pass() -> None:
    assert for_compiler({})["post_grad_custom_post_pass"] is KEEP_SHARED
    graph = lowered(Reads(lambda x, y: x.cos(), FEW + 1), {"x": torch.rand(4, 4), "y": torch.rand(4, 4)})
    KEEP_SHARED(graph)
    assert [node.name for node in graph.nodes if MARK in node.meta] == [node.name for node in shared(graph)] != []
    assert KEEP_SHARED.uuid()


def runs_with_a_cosine(code: list[str]) -> int:
    """How often one call of compiled code runs a kernel with a cosine; kernels that are alike are written once."""
    (text,) = code
    kernels = re.findall(r"^(\w+) = async_compile\.cpp_pybinding\(.*?'''(.*?)'''", text, re.DOTALL | re.MULTILINE)
    assert kernels
    return sum(text.count(f" {name}(") for name, source in kernels if re.search(r"\bcos\(", source))


@pytest.mark.slow
def test_one_kernel_computes_them() -> None:
    """Along one axis, since inductor keeps what it concatenates on a CPU anyway."""
    model, call = make_whole(depth=4, axes=1), make_call()
    runs, outputs = [], []
    for options in (for_compiler(BASE), {**BASE, "fx_graph_cache": False}):
        torch._dynamo.reset()
        compiled = torch.compile(model, options=options)
        output, code = run_and_get_code(partial(compiled, **call))
        runs.append(runs_with_a_cosine(code))
        outputs.append(output[0])
    assert runs[0] == 2  # of the time and of positions
    assert runs[1] > 4
    assert torch.equal(*outputs)
