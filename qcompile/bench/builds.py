"""How long each of an artifact's packages took to build."""

from collections import Counter
from collections.abc import Sequence

from qcompile.bench.found import Found
from qcompile.package import Package


def add_builds(found: Found, packages: Sequence[Package]) -> None:
    """Take down the seconds of every package, by its block's class.

    Layers of one class can differ, so that each kind has a package; only then their number is part of the name, which
    older records have without.
    """
    times = Counter((package.block, package.shapes[0]) for package in packages)
    for package in packages:
        count = f" ({len(package.layers)} layers)" if times[package.block, package.shapes[0]] > 1 else ""
        found.add("aot", f"build, {package.block}{count}", [package.build_seconds], "s", package.shapes[0])
