from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import demo_data
from torch import nn

from qcompile.bench import images
from qcompile.bench.found import Found
from qcompile.bench.images import ComponentClock
from qcompile.bench.timing import Rounds
from qcompile.pipeline import load_pipeline
from qcompile.progress import Silent
from qcompile.recipe import Recipe
from qcompile.source import find_folder
from qcompile.subject import subject_of_pipeline

CPU = torch.device("cpu")


def test_pictures_and_costs_of_a_batch_are_those_of_each() -> None:
    found, rounds = Found(), Rounds({"eager": [200.0, 200.0], "jit": []}, {"jit": "out of memory"})
    images._keep(found, rounds, 4, "one", (), usd_per_hour=3.6)
    values = {item.metric: (item.value, item.unit) for item in found.measured}
    assert values == {
        "image": (50.0, "ms"),  # four in 200 ms
        "images": (20.0, "image/s"),
        "cost": (pytest.approx(0.05), "USD/1000 images"),  # 50 s at 3.6 USD an hour
    }
    assert found.absent == {"jit, image at one": "out of memory"}


@pytest.mark.parametrize("call", [{"num_images_per_prompt": 2}, {"prompt": ["a red circle", "a blue square"]}])
def test_every_image_of_a_call_counts(call: dict, make_recipe: Callable[..., Recipe]) -> None:
    """Whatever makes them several: the declared batch, prompts, or images of each."""
    recipe = make_recipe(call=demo_data()["call"] | {"num_inference_steps": 1} | call)
    pipeline = load_pipeline(find_folder(recipe.header.model.id, None), torch.bfloat16, CPU)
    painted: set[int] = set()
    with torch.no_grad():
        images._paint(subject_of_pipeline(recipe, pipeline), "128x128_b1", painted)
    assert painted == {2}


class Decoder(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def test_every_component_is_timed_whatever_runs_it() -> None:
    vae = nn.Module()
    vae.decoder = Decoder()
    pipeline = SimpleNamespace(components={"vae": vae, "scheduler": object(), "text_encoder": Decoder()})
    clock, log = ComponentClock(pipeline, CPU), []

    def compiled(x: torch.Tensor) -> torch.Tensor:
        log.append("compiled")
        return x + 1

    @contextmanager
    def around():
        pipeline.components["text_encoder"]._compiled_call_impl = compiled
        yield
        pipeline.components["text_encoder"]._compiled_call_impl = None

    for _ in range(2):
        with clock.around(around):
            assert pipeline.components["text_encoder"](vae.decoder(torch.zeros(1))) == 2
    assert log == ["compiled", "compiled"]  # inside of the clock
    assert [spent.keys() for spent in clock.rounds] == [{"vae", "text_encoder"}] * 2
    assert all(ms > 0 for spent in clock.rounds for ms in spent.values())
    assert all(part._compiled_call_impl is None for part in (vae.decoder, pipeline.components["text_encoder"]))


def test_a_round_that_fails_has_no_components() -> None:
    clock = ComponentClock(SimpleNamespace(components={"text_encoder": Decoder()}), CPU)
    with pytest.raises(RuntimeError), clock.around(nullcontext):
        raise RuntimeError("out of memory")
    assert clock.rounds == []


def test_components_of_a_batch_are_those_of_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = SimpleNamespace(components={"transformer": Decoder()})
    stand = SimpleNamespace(device=CPU, pipeline=lambda _: pipeline)
    seconds = iter([0.0, 0.4])
    monkeypatch.setattr(ComponentClock, "_now", lambda _: next(seconds))

    def once(arms: dict, *_: object) -> Rounds:
        with arms["eager"].around():
            arms["eager"].call()
        return Rounds({}, {})

    monkeypatch.setattr(images, "time_in_turn", once)
    found = Found()
    arms = {"eager": images.Timed(lambda: pipeline.components["transformer"](torch.zeros(1)))}
    images._time_components(found, stand, arms, "one", 1, 4, Silent())
    assert [(item.metric, item.value) for item in found.measured] == [("image, transformer", pytest.approx(100.0))]


def test_an_arm_whose_components_fail_in_a_later_round_has_none_of_them() -> None:
    pipelines = {name: SimpleNamespace(components={"transformer": Decoder()}) for name in ("eager", "jit")}
    stand = SimpleNamespace(device=CPU, pipeline=pipelines.__getitem__)
    painted: list[str] = []

    def paint(name: str) -> None:
        painted.append(name)
        pipelines[name].components["transformer"](torch.zeros(1))
        if name == "jit" and painted.count(name) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    found = Found()
    arms = {name: images.Timed(partial(paint, name)) for name in pipelines}
    images._time_components(found, stand, arms, "one", 3, 1, Silent())
    assert found.absent == {"jit, components at one": "out of memory: CUDA out of memory"}
    assert {item.arm for item in found.measured} == {"eager"}
