from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache file that is not there yet."""
    return tmp_path / "autoquant.json"
