import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from qcompile.after_import import after_import

NAME = "after_import_example.part"


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "after_import_example"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "part.py").write_text("TEN = 10\n")
    (folder / "user.py").write_text(f"from {NAME} import TEN\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("after_import_example")]:
        del sys.modules[name]


def make_eleven(module: ModuleType) -> None:
    module.TEN = 11  # type: ignore[attr-defined]


def test_a_module_is_changed_before_its_user_gets_it() -> None:
    finders = list(sys.meta_path)
    with after_import(NAME, make_eleven):
        assert NAME not in sys.modules
        assert importlib.import_module("after_import_example.user").TEN == 11
    assert sys.meta_path == finders


def test_a_module_that_is_there_is_changed_at_once() -> None:
    part = importlib.import_module(NAME)
    with after_import(NAME, make_eleven):
        assert part.TEN == 11


def test_a_module_that_nobody_imports() -> None:
    with after_import(NAME, make_eleven):
        pass
    assert importlib.import_module(NAME).TEN == 10


def test_a_module_that_is_not_to_be_had() -> None:
    finders = list(sys.meta_path)
    with pytest.raises(ModuleNotFoundError), after_import("after_import_example.absent", make_eleven):
        importlib.import_module("after_import_example.absent")
    assert sys.meta_path == finders
