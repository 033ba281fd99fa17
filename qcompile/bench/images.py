"""Whole images: how long one takes with each arm, how many an hour gives, and each component's share."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from qcompile import recipe as recipes
from qcompile.bench.arms import Stand, arms_of
from qcompile.bench.around import Around
from qcompile.bench.clocks import noted
from qcompile.bench.found import Found
from qcompile.bench.timing import Rounds, Timed, time_in_turn
from qcompile.images import count_painted
from qcompile.progress import Progress
from qcompile.subject import Subject, subject_of_pipeline


def time_images(
    found: Found,
    stand: Stand,
    names: Sequence[str],
    against: Sequence[str],
    count: int,
    usd_per_hour: float | None,
    progress: Progress,
) -> None:
    """Paint images of every declared shape with every arm in turn.

    Args:
        found: what is measured goes here, also when Ctrl-C or an error ends it.
        stand: pipelines and inputs.
        names: arms of the artifact.
        against: arms that are other artifacts, called as the artifact's own recipe says.
        count: timed images of each arm, and as many again with its components timed.
        usd_per_hour: price of the machine; None leaves costs out.
        progress: told what happens.
    """
    recipe = recipes.parse(stand.artifact.recipe_text)
    for label in stand.calls:
        # A graph holds one step's inputs; and an arm whose steps failed would fail again.
        able = [name for name in (*names, *against) if name != "aot_graphs" and _has_steps(found, name, label)]
        painted: set[int] = set()
        arms = {
            name: Timed(partial(_paint, subject_of_pipeline(recipe, stand.pipeline(name)), label, painted), arm.around)
            for name, arm in arms_of(found, stand, able, label).items()
        }
        watch = partial(noted, stand.device, f"images of {label}", found.notes)
        rounds = Rounds()
        try:
            time_in_turn(arms, count, 1, stand.device, progress, watch, rounds)
        finally:
            batch = max(painted, default=1)
            _keep(found, rounds, batch, label, against, usd_per_hour)
        alive = {name: arm for name, arm in arms.items() if name not in rounds.absent}
        _time_components(found, stand, alive, label, count, batch, progress)


def _has_steps(found: Found, name: str, label: str) -> bool:
    return bool(found.step_ms.get(label, {}).get(name))


def _paint(subject: Subject, label: str, painted: set[int]) -> None:
    painted.add(count_painted(subject.pipeline(**subject.arguments(label))))


def _keep(
    found: Found, rounds: Rounds, batch: int, label: str, against: Sequence[str], usd_per_hour: float | None
) -> None:
    for name, reason in rounds.absent.items():
        found.leave_out(name, reason, f"image at {label}")
    for name, values in rounds.ms.items():
        rate = [1e3 * batch / ms for ms in values]
        found.add(name, "image", [ms / batch for ms in values], "ms", label)
        found.add(name, "images", rate, "image/s", label)
        if usd_per_hour:
            found.add(name, "cost", [usd_per_hour / 3600 * 1000 / each for each in rate], "USD/1000 images", label)
    found.compare("image", rounds.ms, label, against)


def _time_components(
    found: Found, stand: Stand, arms: dict[str, Timed], label: str, count: int, batch: int, progress: Progress
) -> None:
    """Milliseconds of each component for one image, of `batch` that a call of the pipeline paints.

    Apart from the whole images, since the device is waited for around every call of a component.
    """
    clocks = {name: ComponentClock(stand.pipeline(name), stand.device) for name in arms}
    timed = {name: Timed(arm.call, partial(clocks[name].around, arm.around)) for name, arm in arms.items()}
    watch = partial(noted, stand.device, f"components of {label}", found.notes)
    rounds = Rounds()
    try:
        time_in_turn(timed, count, 0, stand.device, progress, watch, rounds)
    finally:
        for name, reason in rounds.absent.items():
            found.leave_out(name, reason, f"components at {label}")
        for name, clock in clocks.items():
            for part in clock.parts if name not in rounds.absent else ():
                values = [spent[part] / batch for spent in clock.rounds if part in spent]
                found.add(name, f"image, {part}", values, "ms", label)


class ComponentClock:
    """Times every call of a pipeline's components: models, and of an autoencoder its decoder, called by itself."""

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        self.parts: dict[str, nn.Module] = {
            key: part for key, part in pipeline.components.items() if isinstance(part, nn.Module)
        }
        if isinstance(getattr(self.parts.get("vae"), "decoder", None), nn.Module):
            self.parts["vae"] = self.parts["vae"].decoder  # type: ignore[assignment]
        self.rounds: list[dict[str, float]] = []
        """Milliseconds by component, one mapping a round."""
        self._device = device

    @contextmanager
    def around(self, inner: Around) -> Iterator[None]:
        """Time components while the body runs inside of `inner`."""
        spent: dict[str, float] = {}
        with inner():
            # Not hooks: torch.compile would trace into them.
            before = {key: part._compiled_call_impl for key, part in self.parts.items()}
            for key, part in self.parts.items():
                part._compiled_call_impl = self._timed(before[key] or part._call_impl, key, spent)
            try:
                yield
            finally:
                for key, part in self.parts.items():
                    part._compiled_call_impl = before[key]
        self.rounds.append(spent)

    def _timed(self, call: Callable[..., Any], key: str, spent: dict[str, float]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = self._now()
            result = call(*args, **kwargs)
            spent[key] = spent.get(key, 0.0) + (self._now() - started) * 1e3
            return result

        return timed

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
