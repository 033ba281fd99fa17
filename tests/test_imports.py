import gc
import importlib.metadata
import json
import subprocess
import sys
import types
import weakref
from collections.abc import Iterator

import pytest

from qcompile.imports import library_imports


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def test_packages_are_listed_once() -> None:
    before = importlib.metadata.packages_distributions
    with library_imports():
        once, again = (importlib.metadata.packages_distributions() for _ in range(2))
    assert once is again
    assert once["torch"] == ["torch"]
    assert importlib.metadata.packages_distributions is before


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_as_it_was(collects: bool) -> None:
    (gc.enable if collects else gc.disable)()
    with pytest.raises(ImportError), library_imports():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled() == collects


def test_later_collections_pass_over_what_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with library_imports():
        assert gc.get_freeze_count() == 0
    assert gc.get_freeze_count() > 10_000


def test_nothing_is_frozen_where_models_may_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    with library_imports():
        pass
    assert gc.get_freeze_count() == 0


def test_nothing_is_frozen_where_an_import_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(ImportError), library_imports():
        raise ImportError
    assert gc.get_freeze_count() == 0


def test_models_made_afterwards_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with library_imports():
        pass

    class Model:
        pass

    model = Model()
    model.itself = model  # as a pipeline with hooks refers to itself
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_process_that_imports_torch_through_it() -> None:
    program = """
import gc
from qcompile.imports import library_imports
with library_imports():
    import torch
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "True True\n"


def test_the_sources_of_transformers_are_read_once() -> None:
    program = """
import builtins
from collections import Counter
from qcompile.imports import import_transformers
opened, really = Counter(), builtins.open
def count(file, *arguments, **options):
    opened[str(file)] += 1
    return really(file, *arguments, **options)
builtins.open = count
import_transformers()
builtins.open = really
import transformers
read = [times for path, times in opened.items() if "/models/" in path and path.endswith(".py")]
print(len(read) > 100, max(read))
print(transformers.models.t5.T5Config.__name__, transformers.T5Config is transformers.models.t5.T5Config)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "True 1\nT5Config True\n"


LISTS = """
import json, sys
import {module}
{body}
import transformers
from transformers.utils import import_utils
scanned = {{
    str(sorted(backends)): {{module: sorted(names) for module, names in modules.items()}}
    for backends, modules in import_utils.define_import_structure({path}).items()
}}
print(json.dumps([scanned, import_utils.fetch__all__.__qualname__, import_utils.fetch__all__.__module__]))
"""


def test_the_names_in_transformers_are_the_same() -> None:
    own = 'transformers.__path__[0] + "/models"'
    programs = [
        LISTS.format(module="transformers", body="", path=own),
        # The name under which the quick list is kept.
        LISTS.format(
            module="qcompile.imports",
            body="qcompile.imports.import_transformers()",
            path='__import__("pathlib").Path(transformers.__path__[0] + "/models")',
        ),
    ]
    plain, quick = (
        json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
        for program in programs
    )
    assert len(plain[0]) > 1
    assert quick == plain
