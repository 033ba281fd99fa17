import json
from pathlib import Path

import pytest

from qcompile.autoquant.cache import Cache, default_cache
from qcompile.autoquant.decide import Timing

MEASURED: dict[str, Timing | str] = {
    "none": Timing(100.5, 1.25),
    "int8_dynamic": Timing(60, 0),
    "float8_row": "fails: no",
}


def test_what_was_put_comes_back_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "autoquant.json"
    Cache(path, "H200, torch 2.13").put("4096x3072 -> 3072 bfloat16", MEASURED)
    again = Cache(path, "H200, torch 2.13")
    assert again.get("4096x3072 -> 3072 bfloat16", list(MEASURED)) == MEASURED
    assert again.get("4096x3072 -> 3072 bfloat16", ["none"]) == {"none": Timing(100.5, 1.25)}
    assert again.notes == []
    assert [entry.name for entry in path.parent.iterdir()] == ["autoquant.json"]


def test_another_machine_shape_or_candidate_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "autoquant.json"
    Cache(path, "H200").put("a", MEASURED)
    assert Cache(path, "A100").get("a", ["none"]) is None
    assert Cache(path, "H200").get("b", ["none"]) is None
    # Figures of different runs are never compared, so a missing one makes the entry useless.
    assert Cache(path, "H200").get("a", ["none", "int8_weight_only"]) is None


def test_two_processes_keep_each_others_figures(tmp_path: Path) -> None:
    path = tmp_path / "autoquant.json"
    first, second = Cache(path, "H200"), Cache(path, "A100")
    first.put("a", MEASURED)
    second.put("a", MEASURED)
    first.put("b", MEASURED)
    assert {name: sorted(shapes) for name, shapes in json.loads(path.read_text())["machines"].items()} == {
        "H200": ["a", "b"],
        "A100": ["a"],
    }


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "name: my_recipe\n",
        "[]",
        '{"format": 2, "machines": {}}',
        '{"format": 1, "machines": {"H200": {"a": {"none": {"median_us": -1, "spread_us": 0}}}}}',
        '{"format": 1, "machines": {"H200": {"a": {"none": {"median_us": "100", "spread_us": 0}}}}}',
        '{"format": 1, "machines": {"H200": {"a": {"none": {"median_us": NaN, "spread_us": 0}}}}}',
        "\x00\xff",
    ],
)
def test_a_file_that_is_no_cache_is_left_as_it_is_with_a_note(tmp_path: Path, text: str) -> None:
    path = tmp_path / "autoquant.json"
    path.write_text(text)
    cache = Cache(path, "H200")
    assert cache.get("a", ["none"]) is None
    (note,) = cache.notes
    assert str(path) in note
    assert "is left as it is (it is not what this qcompile writes)" in note
    cache.put("a", MEASURED)
    assert cache.get("a", ["none"]) == {"none": Timing(100.5, 1.25)}  # for this run
    assert len(cache.notes) == 1
    assert path.read_text() == text


def test_an_empty_file_becomes_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "autoquant.json"
    path.touch()
    Cache(path, "H200").put("a", MEASURED)
    assert Cache(path, "H200").get("a", ["none"]) == {"none": Timing(100.5, 1.25)}


def test_a_folder_that_can_not_be_written_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "autoquant.json", "H200")
    cache.put("a", MEASURED)
    cache.put("b", MEASURED)
    assert cache.get("a", ["none"]) is not None
    (note,) = cache.notes
    assert "can't be written" in note


def test_a_file_that_can_not_be_looked_for_is_a_note(tmp_path: Path) -> None:
    cache = Cache(tmp_path / ("x" * 300), "H200")
    cache.put("a", MEASURED)
    assert cache.get("a", ["none"]) is not None
    (note,) = cache.notes
    assert "is left as it is (File name too long)" in note


def test_the_default_is_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "qcompile" / "autoquant.json"
    for other in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", other)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert default_cache() == tmp_path / ".cache" / "qcompile" / "autoquant.json"
