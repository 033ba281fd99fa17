import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcompile.deferred import Deferred, deferred_imports

NAME = "deferred_example.part"


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "deferred_example" / "part"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("__all__ = ['add', 'TEN']\nTEN = 10\ndef add(a, *, b): return a + b\n")
    (folder / "deeper.py").write_text("from deferred_example.part import TEN\nTWENTY = 2 * TEN\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("deferred_example")]:
        del sys.modules[name]


def loaded() -> bool:
    return not isinstance(sys.modules.get(NAME, Deferred(NAME, ())), Deferred)


def test_a_function_is_there_before_its_module() -> None:
    with deferred_imports({NAME: ("add",)}):
        from deferred_example.part import add
    assert NAME not in sys.modules
    assert add.__name__ == "add"
    assert add(1, b=2) == 3
    assert loaded()


def test_what_is_no_such_function_loads_the_module() -> None:
    with deferred_imports({NAME: ("add",)}):
        from deferred_example.part import TEN

        assert TEN == 10
        assert loaded()
    assert loaded()


def test_a_name_that_the_module_lacks() -> None:
    with deferred_imports({NAME: ()}), pytest.raises(ImportError, match="cannot import name 'absent'"):
        from deferred_example.part import absent  # noqa: F401


def test_modules_inside_are_found() -> None:
    with deferred_imports({NAME: ()}):
        from deferred_example.part.deeper import TWENTY
    assert TWENTY == 20


def test_everything_can_be_taken() -> None:
    scope: dict[str, object] = {}
    with deferred_imports({NAME: ("add",)}):
        exec(f"from {NAME} import *", scope)
    assert scope["TEN"] == 10


def test_who_holds_the_stand_in_finds_everything_in_it() -> None:
    with deferred_imports({NAME: ()}):
        held = importlib.import_module(NAME)
    assert isinstance(held, Deferred)
    assert held.TEN == 10
    with pytest.raises(AttributeError, match="absent"):
        held.absent  # noqa: B018
    assert importlib.import_module(NAME) is not held


def test_looking_through_modules_loads_none() -> None:
    with deferred_imports({NAME: ()}):
        importlib.import_module(NAME)
        assert inspect.getmodule(test_looking_through_modules_loads_none) is sys.modules[__name__]
        assert not loaded()


def test_a_module_that_is_there_stays() -> None:
    real = importlib.import_module(NAME)
    with deferred_imports({NAME: ("add",)}):
        assert importlib.import_module(NAME) is real
    assert importlib.import_module(NAME) is real


def test_nothing_is_left_where_the_body_fails() -> None:
    with pytest.raises(ImportError, match="body"), deferred_imports({NAME: ()}):
        raise ImportError("body")
    assert NAME not in sys.modules


def test_pipelines_do_without_scipy_until_they_use_it() -> None:
    program = """
import sys
from qcompile.imports import library_imports
with library_imports():
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, LMSDiscreteScheduler
    from transformers import CLIPTextModel, T5EncoderModel
    from transformers.loss.loss_for_object_detection import linear_sum_assignment
slow = "scipy.stats", "scipy.integrate", "scipy.optimize"
print([name for name in slow if name in sys.modules])
print([list(map(int, rows)) for rows in linear_sum_assignment([[1, 9], [9, 1]])])
scheduler = FlowMatchEulerDiscreteScheduler(use_beta_sigmas=True)
scheduler.set_timesteps(3)
print(len(scheduler.sigmas))
scheduler = LMSDiscreteScheduler()
scheduler.set_timesteps(3)
print(round(scheduler.get_lms_coefficient(1, 0, 0), 3) != 0)
import scipy.stats
print(scipy.stats.norm.cdf(0) == 0.5, type(sys.modules["scipy.stats"]).__name__)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["[]", "[[0, 1], [0, 1]]", "4", "True", "True module"]
