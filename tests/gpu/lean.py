"""Make a virtual environment that holds what qcompile depends on and nothing else, by links to what is installed here.

    python tests/gpu/lean.py FOLDER
    FOLDER/bin/python tests/gpu/measure_all.py …

It is what `pip install qcompile` gives, where torch can't be fetched again. Libraries import what they find: among the 190 packages
of the GPU machines is scikit-learn, which transformers 5.17 imports at every start, and with it pandas and pyarrow.
"""

import importlib.metadata
import sys
import tomllib
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_TESTS = ("pytest", "pytest-timeout", "hypothesis", "psutil", "ninja")


def main() -> int:
    """Make the environment and say what is in it."""
    folder = Path(sys.argv[1])
    venv.create(folder, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / version / "site-packages"
    found = closure([*PROJECT["dependencies"], *FOR_TESTS])
    for distribution in found.values():
        for source in entries(distribution):
            target = site / source.name
            if not target.exists():  # a namespace that several share, such as nvidia, lies in one place
                target.symlink_to(source)
    print(f"{folder}: {len(found)} packages of {len(list(importlib.metadata.distributions()))}")
    return 0


def closure(requirements: list[str]) -> dict[str, Distribution]:
    """The distributions that satisfy these and all that they require here, by name."""
    found: dict[str, Distribution] = {}
    while requirements:
        requirement = Requirement(requirements.pop())
        name = requirement.name.lower().replace("_", "-")
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not wanted or name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            print(f"{name} is not here", file=sys.stderr)
        else:
            requirements += found[name].requires or ()
    return found


def entries(distribution: Distribution) -> Iterator[Path]:
    """What a distribution has in site-packages: packages, modules, libraries, metadata."""
    tops = {Path(str(file)).parts[0] for file in distribution.files or ()}
    for top in sorted(tops - {"..", "__pycache__"}):
        path = Path(str(distribution.locate_file(top)))
        if path.exists():
            yield path.resolve()


if __name__ == "__main__":
    sys.exit(main())
