import pytest

from qcompile.bench.record import Record
from qcompile.report.arms import words_of
from qcompile.report.content import Content
from qcompile.report.panels import memory, waterfall
from qcompile.report.start import PHASES, starts
from report.conftest import bench_data

WORDS = words_of(quantized=True)
ARMS = ["eager", "jit_bf16", "eager_quantized", "jit", "aot"]


def test_phases_add_up_to_what_was_measured(full: Content) -> None:
    assert full.bench is not None
    found = starts(full.bench)
    assert [start.arm for start in found] == ARMS
    aot = found[-1]
    assert list(aot.seconds) == list(PHASES)
    before_image = sum(seconds for phase, seconds in aot.seconds.items() if phase != "image")
    whole = full.bench.find("aot", "cold, start_to_first_step")
    assert whole is not None
    assert before_image == pytest.approx(whole.value)
    assert aot.total == pytest.approx(whole.value + aot.seconds["image"])


def test_no_image_no_image_phase() -> None:
    data = bench_data()
    data["measured"] = [item for item in data["measured"] if item["metric"] != "cold, image"]
    assert all("image" not in start.seconds for start in starts(Record.model_validate(data)))


def test_the_note_says_what_is_in_the_bars(full: Content) -> None:
    assert "empty compiler caches: one step, then a whole image." in waterfall(full.bench, WORDS).note
    data = bench_data()
    data["measured"] = [item for item in data["measured"] if item["metric"] != "cold, image"]
    assert waterfall(Record.model_validate(data), WORDS).note.endswith("empty compiler caches: one step.")


def test_bars_end_where_the_same_thing_is_done(full: Content) -> None:
    """A CUDA graph paints no image; a bar to its first step would look like the fastest start."""
    data = bench_data()
    graphs = [
        item | {"arm": "aot_graphs"}
        for item in data["measured"]
        if item["arm"] == "aot" and item["metric"].startswith("cold, ") and "image" not in item["metric"]
    ]
    panel = waterfall(Record.model_validate(data | {"measured": data["measured"] + graphs}), WORDS)
    assert [row[0] for row in panel.table.rows] == [row[0] for row in waterfall(full.bench, WORDS).table.rows]
    assert "AoT, CUDA graphs paints no image, and takes its first step after" in panel.note


def test_peaks_of_starts_without_an_image_are_said_to_be() -> None:
    data = bench_data()
    peaks = [
        item | {"arm": "aot_graphs"}
        for item in data["measured"]
        if (item["arm"], item["metric"]) == ("aot", "peak_gpu")
    ]
    panel, *_ = memory(Record.model_validate(data | {"measured": data["measured"] + peaks}), WORDS)
    assert "paints one image. Without an image: AoT, CUDA graphs." in panel.note
    steps = [item for item in data["measured"] if item["metric"] != "cold, image"]
    panel, *_ = memory(Record.model_validate(data | {"measured": steps}), WORDS)
    assert "loads one arm and takes steps." in panel.note


def test_arms_without_a_whole_start_are_left_out() -> None:
    data = bench_data()
    data["measured"] = [
        item for item in data["measured"] if (item["arm"], item["metric"]) != ("jit", "cold, first_step")
    ]
    assert [start.arm for start in starts(Record.model_validate(data))] == [arm for arm in ARMS if arm != "jit"]


def test_medians_that_do_not_add_up_give_no_negative_phase() -> None:
    data = bench_data()
    for item in data["measured"]:
        if item["metric"] == "cold, load":
            item |= {"value": 500.0, "low": 500.0, "high": 500.0}
    assert {start.seconds["prepare"] for start in starts(Record.model_validate(data))} == {0.0}
