"""Whole blocks: when they are compared, with what, and what comes of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from aot.tiny import Block, make_call, make_model
from torch import nn

from autoquant.fakes import BLOCKS, FakeBlockTimer, FakeTimer, autoquant_step, make_recipe, run, steps_of
from qcompile.autoquant.blocks import CHOSEN, Group, sample_block, winner
from qcompile.autoquant.candidates import in_schemes
from qcompile.autoquant.decide import Timing
from qcompile.autoquant.measure import time_blocks
from qcompile.autoquant.survey import LinearShape
from qcompile.errors import PlanError
from qcompile.schemes import SCHEMES

INT8, FLOAT8 = "int8_dynamic", "int8_weight_only"
"""Here for two that are about as fast."""
FIRST, SECOND = [name for name in BLOCKS if "first" in name], [name for name in BLOCKS if "second" in name]
NEAR = {"none": 100.0, INT8: 60.0, FLOAT8: 64.0, "float8_weight_only": 90.0}


def split(shape: LinearShape) -> dict[str, float | str]:
    """One scheme is best for inputs of 24 rows, the other one for others."""
    return NEAR if shape.bias else {**NEAR, INT8: 64.0, FLOAT8: 60.0}


def two_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Second layers have no bias, so that they have a shape of their own."""
    before = Block.__init__

    def init(self: Block, *args: Any, **kwargs: Any) -> None:
        before(self, *args, **kwargs)
        self.second = nn.Linear(self.second.in_features, self.second.out_features, bias=False)

    monkeypatch.setattr(Block, "__init__", init)


def test_one_scheme_throughout_where_that_is_as_fast(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_kinds(monkeypatch)
    blocks = FakeBlockTimer(NEAR, {INT8: 5.0})
    resolution = run(make_recipe(), FakeTimer(split), cache, block_timer=blocks)
    assert blocks.asked == [
        {
            CHOSEN: {"first": INT8, "second": FLOAT8},
            INT8: {"first": INT8, "second": INT8},
            FLOAT8: {"first": FLOAT8, "second": FLOAT8},
        }
    ]
    assert steps_of(resolution) == {INT8: BLOCKS}
    (note,) = resolution.notes
    assert note.startswith("steps.0.quantize: Block as a whole, 3 blocks: layer by layer 124.0 us (spread 1.0), ")
    assert note.endswith(f"; taken: {INT8}")
    verdicts = {(row.scheme, row.shape.bias): row.verdict for row in resolution.measurements if row.shape}
    assert verdicts[INT8, False] == "taken"
    assert verdicts[FLOAT8, False] == f"not faster than {INT8} in whole blocks"


def test_layer_by_layer_where_that_is_faster(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_kinds(monkeypatch)
    resolution = run(make_recipe(), FakeTimer(split), cache, block_timer=FakeBlockTimer(NEAR, {CHOSEN: 20.0}))
    assert steps_of(resolution) == {INT8: FIRST, FLOAT8: SECOND}


def test_a_scheme_far_from_it_is_not_compared(cache: Path) -> None:
    """Compiling a block takes seconds."""
    blocks = FakeBlockTimer()
    assert steps_of(run(make_recipe(), FakeTimer(), cache, block_timer=blocks)) == {INT8: BLOCKS}
    assert blocks.asked == []


def test_another_scheme_may_be_faster_in_whole_blocks(cache: Path) -> None:
    resolution = run(make_recipe(), FakeTimer(NEAR), cache, block_timer=FakeBlockTimer(NEAR, {FLOAT8: 30.0}))
    assert steps_of(resolution) == {FLOAT8: BLOCKS}


def test_a_scheme_that_is_too_wrong_is_not_compared(cache: Path) -> None:
    free = run(make_recipe(autoquant_step(min_sqnr_db=0)), FakeTimer(NEAR), cache)
    worst = {row.scheme: row.sqnr_db for row in free.measurements if row.shape}
    bound = (worst[INT8] + worst[FLOAT8]) / 2
    blocks = FakeBlockTimer(NEAR)
    run(make_recipe(autoquant_step(min_sqnr_db=bound)), FakeTimer(NEAR), cache, block_timer=blocks)
    assert blocks.asked
    assert all(asked.keys() == {CHOSEN, FLOAT8} for asked in blocks.asked)  # some layers can't have int8_dynamic


def test_latencies_of_blocks_are_kept(cache: Path) -> None:
    first = run(make_recipe(), FakeTimer(NEAR), cache, block_timer=FakeBlockTimer(NEAR, {FLOAT8: 30.0}))
    idle = FakeBlockTimer(NEAR)
    again = run(make_recipe(), FakeTimer(NEAR, interrupt_at=0), cache, block_timer=idle)
    assert idle.asked == []
    assert again.recipe.data == first.recipe.data
    # Another shape, another latency.
    run(make_recipe(), FakeTimer(NEAR), cache, rows=(48,), block_timer=idle)
    assert len(idle.asked) == 1


def test_variants_that_fail(cache: Path) -> None:
    fails = FakeBlockTimer(NEAR, {FLOAT8: "fails: no kernel"})
    resolution = run(make_recipe(), FakeTimer(NEAR), cache, block_timer=fails)
    assert steps_of(resolution) == {INT8: BLOCKS}
    assert f"{FLOAT8} fails: no kernel" in resolution.notes[0]


@pytest.mark.parametrize("on_budget", ["error", "none"])
def test_no_time_for_blocks(cache: Path, on_budget: str) -> None:
    recipe = make_recipe(autoquant_step(budget_s=4, on_budget=on_budget))
    blocks = FakeBlockTimer(NEAR)
    if on_budget == "error":
        with pytest.raises(PlanError, match="4 s were not enough; not measured: whole Blocks in layer by layer, int8_"):
            run(recipe, FakeTimer(NEAR, seconds=1), cache, block_timer=blocks)
    else:
        resolution = run(recipe, FakeTimer(NEAR, seconds=1), cache, block_timer=blocks)
        assert steps_of(resolution) == {INT8: BLOCKS}
        assert f"{CHOSEN} not measured: out of budget" in resolution.notes[0]
    assert blocks.asked == []


def test_time_that_is_up_between_variants(cache: Path) -> None:
    class Late(FakeBlockTimer):
        def __call__(self, *args: Any) -> dict:
            found = super().__call__(*args)
            del found[FLOAT8]
            return found

    with pytest.raises(PlanError, match="not measured: whole Blocks in int8_weight_only"):
        run(make_recipe(), FakeTimer(NEAR), cache, block_timer=Late(NEAR))
    resolution = run(make_recipe(autoquant_step(on_budget="none")), FakeTimer(NEAR), cache, block_timer=Late(NEAR))
    assert steps_of(resolution) == {INT8: BLOCKS}
    assert f"{FLOAT8} not measured: out of budget" in resolution.notes[0]


@pytest.mark.parametrize(
    ("chosen", "timings", "expected"),
    [
        ({"a": "x"}, {CHOSEN: Timing(100, 1), "y": Timing(101, 1)}, "y"),
        ({"a": "x"}, {CHOSEN: Timing(100, 1), "y": Timing(103, 1)}, CHOSEN),
        ({"a": "x"}, {CHOSEN: Timing(100, 1), "y": Timing(99, 1), "z": Timing(98.5, 1)}, "z"),
        ({"a": "x", "b": "none"}, {CHOSEN: Timing(100, 1), "y": Timing(99, 1)}, CHOSEN),
        ({"a": "x", "b": "none"}, {CHOSEN: Timing(100, 1), "y": Timing(97, 1)}, "y"),
        ({"a": "x"}, {CHOSEN: "fails", "y": Timing(300, 1)}, "y"),
        ({"a": "x"}, {CHOSEN: "fails", "y": "fails"}, CHOSEN),
    ],
)
def test_the_winner(chosen: dict, timings: dict, expected: str) -> None:
    assert winner(Group("Block", ("blocks.0",), chosen, ("y",)), timings) == expected


def test_a_sample_is_a_copy_with_all_its_calls() -> None:
    model, fired = make_model(), []
    model.blocks[2].register_forward_hook(lambda *_: fired.append(1))
    calls = {"a": make_call(24), "b": make_call(48)}
    sample = sample_block(model, "blocks.2", calls)
    assert len(fired) == 2
    with torch.no_grad():
        outputs = [sample.block(*args, **kwargs)[1] for args, kwargs in sample.calls]
        assert len(fired) == 2  # the copy has no hooks
        expected = [model(**call)[0] for call in calls.values()]
        assert all(map(torch.equal, outputs, expected))
        model.blocks[2].first.weight.zero_()
        assert torch.equal(sample.block(*sample.calls[0][0], **sample.calls[0][1])[1], outputs[0])
    assert [kwargs["context"].shape[1] for _, kwargs in sample.calls] == [5, 5]
    assert not model.blocks[2]._forward_pre_hooks


def test_a_block_in_several_schemes() -> None:
    block = make_model().blocks[0]
    mixed = in_schemes({"first": INT8, "second": "none"}, block)
    assert SCHEMES[INT8].recognise(mixed.first.weight)
    assert type(mixed.second.weight.data) is torch.Tensor
    assert type(block.first.weight.data) is torch.Tensor
    both = in_schemes({"first": INT8, "second": FLOAT8}, block)
    assert SCHEMES[FLOAT8].recognise(both.second.weight)


@pytest.mark.slow
def test_a_block_for_real() -> None:
    """Compiled in each variant; a scheme that can't be had leaves the others."""
    sample = sample_block(make_model(), "blocks.1", {"a": make_call(24)})
    variants = {
        CHOSEN: {"first": INT8, "second": "none"},
        FLOAT8: {"first": FLOAT8, "second": FLOAT8},
        "nvfp4": {"first": "nvfp4", "second": "nvfp4"},
    }
    found = time_blocks(sample.block, sample.calls, variants, lambda: False)
    assert found.keys() == variants.keys()
    for name in (CHOSEN, FLOAT8):
        assert found[name].median_us > 0
        assert found[name].spread_us >= 0
    assert isinstance(found["nvfp4"], str)
