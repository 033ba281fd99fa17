import dataclasses
from pathlib import Path

import pytest

from qcompile.artifact.read import read_artifact
from qcompile.bench.against import check_comparable, name_against
from qcompile.errors import PlanError


def test_folders_become_arms_that_nothing_else_is_called() -> None:
    found = name_against([Path("/a/one"), Path("/b/one"), Path("/c/aot"), Path("/d/machine"), Path("/e/two")])
    assert list(found) == ["a/one", "b/one", "c/aot", "d/machine", "two"]
    assert found["b/one"] == Path("/b/one")


def test_one_folder_twice_is_one_arm(tmp_path: Path) -> None:
    assert list(name_against([tmp_path, tmp_path / ".." / tmp_path.name])) == [tmp_path.name]


def test_a_folder_at_the_root_that_is_called_like_an_arm() -> None:
    """As containers mount folders: a record would mix two artifacts under one name."""
    assert name_against([Path("/aot"), Path("/weights"), Path("/other")]) == {
        "/aot": Path("/aot"),
        "/weights": Path("/weights"),
        "other": Path("/other"),
    }


def test_models_that_can_not_be_called_alike_are_refused(eager_artifact: Path) -> None:
    mine = read_artifact(eager_artifact)

    def other(**changes: str):
        model = mine.manifest.model.model_copy(update=changes)
        return dataclasses.replace(mine, manifest=mine.manifest.model_copy(update={"model": model}))

    assert check_comparable("other", mine, mine) == []
    assert check_comparable("other", other(id="x/y"), mine) == [
        "other was made from another model: x/y, not builtin:flux-mini"
    ]
    with pytest.raises(PlanError, match="StableDiffusionXLPipeline with its transformer.*of the same kind of model"):
        check_comparable("other", other(class_name="StableDiffusionXLPipeline"), mine)
    with pytest.raises(PlanError, match="is a bare FluxPipeline, which has no pipeline to run"):
        check_comparable("other", other(kind="model"), mine)
