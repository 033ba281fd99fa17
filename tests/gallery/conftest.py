"""Model folders of the families, written once a session; nothing of them is kept in the repository."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gallery.cases import FAMILIES
from qcompile.noise import quiet_libraries

Folder = Callable[[str], Path]


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The folder of a family's pipeline at published size, configurations only."""
    root = tmp_path_factory.mktemp("full")

    def write(name: str) -> Path:
        if not (root / name).exists():
            with quiet_libraries():
                FAMILIES[name].write_full(root / name)
        return root / name

    return write


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The folder of a family's shrunken twin, with weights."""
    root = tmp_path_factory.mktemp("twins")

    def write(name: str) -> Path:
        if not (root / name).exists():
            with quiet_libraries():
                FAMILIES[name].write_twin(root / name)
        return root / name

    return write
