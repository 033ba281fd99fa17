"""Two threads at once, and what belongs to the whole process."""

import gc
import importlib.metadata
import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import nn

import qcompile
from qcompile.imports import library_imports
from qcompile.noise import quiet_libraries

LOADS = 3


def of_the_process() -> dict[str, object]:
    return {
        "default dtype": torch.get_default_dtype(),
        "parameters": nn.Module.register_parameter,
        "logging": logging.root.manager.disable,
        "level": logging.getLogger("torch").level,
        "warnings": list(warnings.filters),
        "distributions": importlib.metadata.packages_distributions,
        "gc": gc.isenabled(),
    }


def test_two_threads_may_load(eager_artifact: Path) -> None:
    qcompile.load(eager_artifact)  # imports everything
    before, start = of_the_process(), threading.Barrier(2)

    def load(_: int) -> list[torch.Tensor]:
        start.wait()
        return [qcompile.load(eager_artifact).transformer.x_embedder.weight for _ in range(LOADS)]

    with ThreadPoolExecutor(2) as pool:
        weights = [weight for found in pool.map(load, range(2)) for weight in found]
    assert of_the_process() == before
    assert {weight.device.type for weight in weights} == {"cpu"}
    assert len(weights) == 2 * LOADS


def test_what_one_thread_has_set_another_waits_for() -> None:
    before, order = of_the_process(), []
    inside, waits = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait()
        waits.set()
        with library_imports():
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with quiet_libraries():
        inside.set()
        waits.wait()
        thread.join(0.2)  # time to go on, if nothing held it
        with quiet_libraries():  # the same thread may
            order.append("first")
    thread.join()
    assert order == ["first", "other"]
    assert of_the_process() == before
