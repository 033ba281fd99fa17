"""A timer and a clock that need no compiler, and a small model to resolve recipes for."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from aot.tiny import Model, make_call, make_model
from conftest import demo_data
from torch import nn

from qcompile import recipe as recipes
from qcompile.autoquant import Resolution, resolve
from qcompile.autoquant.decide import Timing
from qcompile.autoquant.survey import LinearShape, shape_of
from qcompile.recipe import Recipe

LATENCIES_US = {"none": 100.0, "int8_dynamic": 60.0, "int8_weight_only": 80.0, "float8_weight_only": 90.0}
OPTIONS = {"candidates": [name for name in LATENCIES_US if name != "none"], "min_sqnr_db": 20}
"""Of an autoquant step: three schemes that every machine runs."""


class FakeTimer:
    """Says what it is told to and counts what it is asked.

    Args:
        latencies_us: scheme -> median, or why there is none; or a function of the shape that gives such a mapping.
        seconds: added to `now` for every scheme measured.
        interrupt_at: raise KeyboardInterrupt at this shape, counted from 0.
    """

    def __init__(
        self,
        latencies_us: dict[str, float | str] | Callable[[LinearShape], dict[str, float | str]] | None = None,
        seconds: float = 0,
        interrupt_at: int | None = None,
    ) -> None:
        self.latencies_us = latencies_us or LATENCIES_US
        self.seconds = seconds
        self.interrupt_at = interrupt_at
        self.asked: list[tuple[LinearShape, tuple[str, ...]]] = []
        self.options: list[Mapping[str, Any]] = []
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def __call__(
        self,
        layer: nn.Linear,
        activation: torch.Tensor,
        schemes: Sequence[str],
        expired: Callable[[], bool],
        options: Mapping[str, Any],
    ) -> dict[str, Timing | str]:
        shape = shape_of(layer, activation)
        if self.interrupt_at == len(self.asked):
            raise KeyboardInterrupt
        self.asked.append((shape, tuple(schemes)))
        self.options.append(options)
        known = self.latencies_us(shape) if callable(self.latencies_us) else self.latencies_us
        outcomes: dict[str, Timing | str] = {}
        for scheme in schemes:
            if outcomes and expired():
                break
            self.now += self.seconds
            found = known.get(scheme, 1000.0)
            outcomes[scheme] = found if isinstance(found, str) else Timing(found, 1.0)
        return outcomes


class FakeBlockTimer:
    """Says that a block takes as long as its layers do, less what `gains` says of a variant, and counts its calls."""

    def __init__(
        self, latencies_us: Mapping[str, float | str] = LATENCIES_US, gains: Mapping[str, float | str] | None = None
    ) -> None:
        self.latencies_us = latencies_us
        self.gains = gains or {}
        self.asked: list[dict[str, dict[str, str]]] = []
        self.seen: list[tuple[nn.Module, list]] = []

    def __call__(
        self,
        block: nn.Module,
        calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
        variants: Mapping[str, Mapping[str, str]],
        expired: Callable[[], bool],
        options: Mapping[str, Any],
    ) -> dict[str, Timing | str]:
        self.asked.append({name: dict(schemes) for name, schemes in variants.items()})
        self.seen.append((block, list(calls)))
        found: dict[str, Timing | str] = {}
        for name, schemes in variants.items():
            gain = self.gains.get(name, 0.0)
            total = sum(float(self.latencies_us[scheme]) for scheme in schemes.values())
            found[name] = gain if isinstance(gain, str) else Timing(total - gain, 1.0)
        return found


def autoquant_step(layers: dict | None = None, **options: object) -> dict:
    """A quantize step with `scheme: autoquant` over a bare `Model`."""
    step = {"component": "model", "scheme": "autoquant", "autoquant": copy.deepcopy(OPTIONS) | options}
    return {"quantize": step | ({"layers": layers} if layers else {})}


AOT = {"compile": {"component": "model", "mode": "aot"}}


def make_recipe(*steps: dict, compiled: Sequence[dict] = (AOT,)) -> Recipe:
    """A recipe for a bare `Model` that ends with the steps `compiled`; nothing here goes so far."""
    steps = steps or (autoquant_step(),)
    return recipes.parse(yaml.safe_dump(demo_data() | {"name": "tiny", "steps": [*steps, *compiled]}), "tiny.yaml")


BLOCKS = [f"blocks.{index}.{name}" for index in range(3) for name in ("first", "second")]
"""The layers an autoquant step without `layers` chooses for."""


def tiny(rows: Sequence[int] = (24,)) -> tuple[Model, list[dict[str, torch.Tensor]]]:
    """A model and one call of it for each row count."""
    return make_model(), [make_call(count) for count in rows]


def run(
    recipe: Recipe,
    timer: FakeTimer,
    cache: Path,
    rows: tuple[int, ...] = (24,),
    block_timer: FakeBlockTimer | None = None,
) -> Resolution:
    """Resolve for a bare `Model`."""
    if block_timer is None:
        # What depends on the shape a block's timer does not know: then it has nothing to say against single layers.
        flat = isinstance(timer.latencies_us, dict)
        block_timer = (
            FakeBlockTimer(timer.latencies_us) if flat else FakeBlockTimer(gains=dict.fromkeys(LATENCIES_US, -1000.0))
        )
    model, inputs = tiny(rows)
    return resolve(
        recipe,
        model=model,
        example_inputs=inputs,
        device="cpu",
        cache=cache,
        timer=timer,
        block_timer=block_timer,
        clock=timer.clock,
    )


def steps_of(resolution: Resolution) -> dict[str, list[str]]:
    """Scheme -> layers that were named, of every quantize step."""
    found = [step["quantize"] for step in resolution.recipe.data["steps"] if "quantize" in step]
    assert all(step.keys() == {"component", "scheme", "layers"} for step in found)
    return {step["scheme"]: step["layers"]["include"] for step in found}
