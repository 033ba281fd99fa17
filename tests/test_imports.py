import gc
import importlib.metadata
from collections.abc import Iterator

import pytest

from qcompile.imports import library_imports


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    yield
    gc.enable()


def test_packages_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: scans.append(1) or {"a": ["b"]})
    before = importlib.metadata.packages_distributions
    with library_imports():
        assert [importlib.metadata.packages_distributions() for _ in range(3)] == [{"a": ["b"]}] * 3
    assert len(scans) == 1
    assert importlib.metadata.packages_distributions is before


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_as_it_was(collects: bool) -> None:
    (gc.enable if collects else gc.disable)()
    with pytest.raises(ImportError), library_imports():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled() == collects
