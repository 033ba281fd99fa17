import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import pytest

from qcompile.distributions import Distributions


def installed(
    folder: Path, name: str, files: Sequence[str] = (), declared: str | None = None, kind: str = "dist-info"
) -> None:
    about = folder / f"{name}-1.0.{kind}"
    about.mkdir()
    metadata, listing = ("METADATA", "RECORD") if kind == "dist-info" else ("PKG-INFO", "SOURCES.txt")
    (about / metadata).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    ending = ",sha256=abc,1" if listing == "RECORD" else ""
    lines = [f'"{file}"{ending}' if "," in file else f"{file}{ending}" for file in files]
    (about / listing).write_text("\n".join(lines))
    if declared is not None:
        (about / "top_level.txt").write_text(declared)


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that is installed."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    return tmp_path


def test_what_is_installed_here() -> None:
    plain, quick = importlib.metadata.packages_distributions(), Distributions()
    assert len(plain) > 50
    assert {name: sorted(set(quick[name])) for name in plain} == {name: sorted(set(plain[name])) for name in plain}


def test_packages_and_modules_of_a_record(found: Path) -> None:
    installed(found, "An-Example", ["example/__init__.py", "example/part/deep.py", "single.py", "../bin/run"])
    assert {**Distributions()} == {"example": ["An-Example"], "single": ["An-Example"]}


def test_what_is_declared_goes_before_what_is_listed(found: Path) -> None:
    installed(found, "declared", ["example/__init__.py"], declared="one\ntwo\n")
    installed(found, "empty", ["other/__init__.py"], declared="\n")
    assert {**Distributions()} == {"one": ["declared"], "two": ["declared"], "other": ["empty"]}


def test_a_package_of_two_distributions(found: Path) -> None:
    installed(found, "first", ["shared/first.py"])
    installed(found, "second", ["shared/second.py"])
    packages = Distributions()
    assert len(packages) == 1
    assert sorted(packages["shared"]) == ["first", "second"]
    assert "first" not in packages
    assert packages.get("first") is None


def test_a_path_with_a_comma(found: Path) -> None:
    installed(found, "odd", ["example/a,b.py"])
    assert {**Distributions()} == {"example": ["odd"]}


def test_an_egg(found: Path) -> None:
    installed(found, "egg", ["example/__init__.py"], kind="egg-info")
    assert {**Distributions()} == {"example": ["egg"]}


def test_a_distribution_without_lists(found: Path) -> None:
    about = found / "bare-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: bare\n")
    assert {**Distributions()} == {}
