import json
from pathlib import Path

import jsonschema
import pytest
from conftest import RECIPES

from qcompile.bench.record import Record, check_target, file_name, keep, measured, place_of, ratio, read, schema, write
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


def test_bytes_that_are_no_utf8_do_not_take_what_was_measured(tmp_path: Path) -> None:
    path, odd = tmp_path / "record.json", "caf\udce9"
    step = measured(odd, "step", [1.0], "ms")
    over = ratio("aot", odd, "step", [1.0], [1.0])
    texts = {"command": odd, "model": odd, "notes": (odd,), "absent": {odd: odd}}
    write(make_record(measured=(step,), ratios=(over,), **texts), path)
    found = read(path)
    assert (found.command, found.model, found.notes, found.absent) == ("caf�", "caf�", ("caf�",), {"caf�": "caf�"})
    assert found.find("caf�", "step")
    assert found.ratio("aot", "caf�")


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

    epyc = make_record(processor="AMD EPYC")
    assert file_name(epyc) == "flux_int8.cpu-amd-epyc.json"
    xeon = make_record(processor="Intel(R) Xeon(R) Platinum 8480C CPU @ 2.00GHz")
    assert file_name(xeon) == "flux_int8.cpu-intel-xeon-platinum-8480c.json"
    arm = dataclasses.replace(current("cpu"), machine="aarch64")
    assert file_name(make_record(environment=arm)) == "flux_int8.cpu-aarch64.json"
    gpu = dataclasses.replace(current("cpu"), device="cuda", gpu="NVIDIA H200")
    assert file_name(make_record(environment=gpu, processor="AMD EPYC")) == "flux_int8.nvidia-h200.json"


def test_what_something_else_wrote_is_not_overwritten(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.json"
    theirs.write_text((RECIPES / "measured" / "flux_mini_int8.cpu.json").read_text())
    before = theirs.read_bytes()
    for refuse in (check_target, lambda path: write(make_record(), path)):
        with pytest.raises(ArtifactError, match="theirs.json is there and no record of `qcompile bench`"):
            refuse(theirs)
    assert theirs.read_bytes() == before
    ours = tmp_path / "ours.json"
    write(make_record(), ours)
    check_target(ours)
    write(make_record(cpus=3), ours)
    assert read(ours).cpus == 3


def test_half_a_record_is_never_in_the_place_of_a_whole_one(tmp_path: Path) -> None:
    target = tmp_path / "flux.nvidia-h200.json"
    beside = tmp_path / "flux.nvidia-h200.interrupted"
    assert keep(make_record(cpus=1), target, whole=False) == beside
    assert not target.exists()  # README's table is made from such files
    assert keep(make_record(cpus=2), target, whole=True) == target
    assert keep(make_record(cpus=3), target, whole=False) == beside
    assert (read(target).cpus, read(beside).cpus) == (2, 3)


def test_the_place_of_a_record_is_known_before_it_is_measured(tmp_path: Path) -> None:
    record = make_record()
    known = (record.recipe, record.environment, record.processor)
    assert place_of(tmp_path, *known) == tmp_path / file_name(record)
    assert place_of(tmp_path / "mine.json", *known) == tmp_path / "mine.json"


def test_a_record_is_not_put_into_an_artifact(eager_artifact: Path) -> None:
    for path in (eager_artifact, eager_artifact / "bench.json", eager_artifact / "new" / "bench.json"):
        with pytest.raises(ArtifactError, match="is an artifact, which takes no other files"):
            check_target(path)


@pytest.mark.parametrize("path", sorted((RECIPES / "measured").glob("*.json")), ids=lambda path: path.name)
def test_records_that_were_kept_can_still_be_read(path: Path) -> None:
    if "format" in json.loads(path.read_text()):
        assert read(path).measured
    else:
        assert path.name == "flux_mini_int8.cpu.json"


def test_records_fit_their_schema() -> None:
    jsonschema.validate(json.loads(make_record(processor="AMD EPYC").model_dump_json()), schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(make_record().model_dump_json()) | {"cpus": "two"}, schema())
