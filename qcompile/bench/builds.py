"""What making the artifact took: its packages, and the stages of `apply` where it was made just now."""

from collections import Counter
from collections.abc import Mapping, Sequence

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


def add_stages(
    found: Found, built_seconds: Mapping[str, float], built_peak_gpu_bytes: Mapping[str, int], weight_bytes: int
) -> None:
    """Take down the seconds of every stage and the most GPU memory that it took, and that memory over the weights'."""
    for title, seconds in built_seconds.items():
        found.add("build", title, [seconds], "s")
    for title, peak_bytes in built_peak_gpu_bytes.items():
        found.add("build", f"peak_gpu, {title}", [float(peak_bytes)], "bytes")
    if built_peak_gpu_bytes:
        peak = float(max(built_peak_gpu_bytes.values()))
        found.add("build", "peak_gpu", [peak], "bytes")
        found.compare_two("peak_gpu", "build", "weights", {"build": [peak], "weights": [float(weight_bytes)]})
