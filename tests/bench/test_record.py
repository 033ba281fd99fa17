from pathlib import Path

import pytest

from qcompile.bench.record import Record, check_target, file_name, measured, ratio, read, write
from qcompile.environment import current
from qcompile.errors import ArtifactError, MachineError, ModelError


def make_record(**changes: object) -> Record:
    values = {
        "command": "qcompile bench flux-int8",
        "date": "2026-01-01",
        "recipe": "flux_int8",
        "recipe_version": 1,
        "recipe_sha256": "0" * 64,
        "model": "x/y",
        "environment": current("cpu"),
        "cpus": 2,
        "bytes_before": 10,
        "bytes_after": 5,
        "package_bytes": 1,
        "measured": (measured("aot", "step", [3.0, 1.0, 2.0], "ms", "64x64_b1"),),
        "ratios": (ratio("aot", "jit", "step", [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]),),
        "absent": {"aot_graphs": "CUDA graphs need a GPU"},
        "notes": (),
    }
    return Record.model_validate(values | changes)


def test_medians_and_ratios_of_each_round() -> None:
    record = make_record()
    step = record.find("aot", "step")
    assert step is not None
    assert (step.value, step.low, step.high, step.count, step.shape) == (2.0, 1.0, 3.0, 3, "64x64_b1")
    found = record.ratio("aot", "jit")
    assert found is not None
    assert (found.value, found.low, found.high) == (1.0, 0.5, 1.5)
    assert record.find("jit", "step") is None
    assert record.find("aot", "step", "other") is None
    assert record.ratio("jit", "aot") is None


def test_it_is_the_same_after_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.json"
    write(make_record(), path)
    assert read(path) == make_record()


def test_a_place_that_can_not_hold_a_record_is_refused_before(tmp_path: Path) -> None:
    for allowed in (tmp_path / "new" / "deep", tmp_path / "a.json", tmp_path / "new" / "a.json", tmp_path, Path("new")):
        check_target(allowed)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    (tmp_path / "b.json").mkdir()
    for refused, message in (
        (tmp_path / "file" / "m", "nothing can be written under .*file. Choose another place"),
        (tmp_path / "file" / "m.json", "nothing can be written under .*file. Choose another place"),
        (tmp_path / "file", "nothing can be written under"),
        (tmp_path / "b.json", "b.json is a folder. Name a file"),
    ):
        with pytest.raises(ArtifactError, match=message):
            check_target(refused)


def test_what_can_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.mkdir()
    with pytest.raises(MachineError, match="record.json: can't be written .Is a directory"):
        write(make_record(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}'])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ModelError, match="is no record of `qcompile bench`"):
        read(path)
    with pytest.raises(ModelError, match="missing.json is no record"):
        read(tmp_path / "missing.json")


def test_files_are_named_after_recipe_and_device() -> None:
    import dataclasses

    assert file_name(make_record()) == "flux_int8.cpu.json"
    gpu = dataclasses.replace(current("cpu"), device="cuda", gpu="NVIDIA H200")
    assert file_name(make_record(environment=gpu)) == "flux_int8.nvidia-h200.json"
