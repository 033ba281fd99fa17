from types import SimpleNamespace

from qcompile.bench.builds import add_builds
from qcompile.bench.found import Found


def package(block: str, layers: int, seconds: float, shape: str = "1024x1024_b1") -> SimpleNamespace:
    return SimpleNamespace(block=block, layers=("",) * layers, build_seconds=seconds, shapes=(shape,))


def test_two_kinds_of_one_class_have_two_names() -> None:
    """SDXL has blocks of 10 layers and of 60, which differ in their width."""
    found = Found()
    add_builds(found, [package("Basic", 60, 56.0), package("Basic", 10, 12.0), package("Single", 38, 9.0)])
    names = {item.metric: item.value for item in found.measured}
    assert names == {"build, Basic (60 layers)": 56.0, "build, Basic (10 layers)": 12.0, "build, Single": 9.0}


def test_one_kind_keeps_its_name_in_every_shape() -> None:
    found = Found()
    add_builds(found, [package("Basic", 10, 3.0), package("Basic", 10, 4.0, "512x512_b1")])
    assert [(item.metric, item.shape) for item in found.measured] == [
        ("build, Basic", "1024x1024_b1"),
        ("build, Basic", "512x512_b1"),
    ]
