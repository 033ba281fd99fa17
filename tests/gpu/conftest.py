"""Artifacts made on the GPU, once a session. Every test here carries the marker gpu and is run by hand."""

from pathlib import Path

import pytest
import torch
from conftest import DEMO, ROOT

import qcompile


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def _needs_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.fail(f"these tests need an NVIDIA GPU; without one run {ROOT.name} with -m 'not gpu'")


@pytest.fixture(scope="session")
def cuda_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo recipe's artifact, built for the GPU. Read only."""
    target = tmp_path_factory.mktemp("artifacts") / "flux_mini_int8"
    qcompile.apply(DEMO, out=target)
    return target
