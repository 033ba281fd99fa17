"""Shared fixtures: the recipe of the demo, cut down for tests that need no compiler; artifacts built once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, settings

import qcompile
from qcompile import recipe as recipes
from qcompile.recipe import Recipe

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
# A busy machine is no bug: properties are checked, not how fast examples come.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

DEMO = RECIPES / "flux_mini_int8.yaml"


def demo_data() -> dict:
    """The demo recipe as plain data, to be changed by a test."""
    return yaml.safe_load(DEMO.read_text(encoding="utf-8"))


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """Make a recipe from the demo recipe: `make_recipe(steps=[...], shapes=[...])`."""

    def make(**changes: object) -> Recipe:
        return recipes.parse(yaml.safe_dump(demo_data() | changes), "test.yaml")

    return make


def eager_steps() -> list[dict]:
    """The demo recipe's steps without the compile step: applied in about a second."""
    return [step for step in demo_data()["steps"] if "compile" not in step]


@pytest.fixture(scope="session")
def eager_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the demo recipe without packages. Read only: copy it to change it."""
    target = tmp_path_factory.mktemp("artifacts") / "eager"
    qcompile.apply(recipes.parse(yaml.safe_dump(demo_data() | {"steps": eager_steps()}), "test.yaml"), out=target)
    return target


@pytest.fixture(scope="session")
def compiled_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the demo recipe, packages and all (about 30 s). Read only: copy it to change it."""
    target = tmp_path_factory.mktemp("artifacts") / "compiled"
    qcompile.apply(DEMO, out=target)
    return target
