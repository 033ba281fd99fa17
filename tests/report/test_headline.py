"""The figures at the top are the record's own, each beside the control."""

import dataclasses
from collections.abc import Callable
from typing import Any

from qcompile.bench.record import Record
from qcompile.report.content import Content, gather
from qcompile.report.headline import Headline, headlines, subject_of
from report.conftest import ARTIFACT, bench_data


def of(content: Content, bench: Record | None) -> dict[str, Headline]:
    return {item.what: item for item in headlines(bench, content.verification, content.manifest)}


def test_ratios_come_with_spread_and_control(full: Content) -> None:
    found = of(full, full.bench)
    assert next(iter(found)) == "as fast as the compiled original"
    control = found["as fast as the compiled original"]
    assert (control.value, control.spread) == ("1.37×", "a step, quantized, AoT: 1.29 to 1.41 in 30 rounds")
    assert control.control == "measured against the control itself"
    eager = found["as fast as the eager original"]
    assert eager.value == "1.82×"
    assert eager.control == "control: compiling alone takes 0.75× the time"
    start = found["as fast as torch.compile of the same weights"]
    assert (start.value, start.spread) == ("56×", "first step of a new process: one round")
    assert start.control == "control: 9.00 s, this: 0.182 s"
    memory = found["peak GPU memory"]
    assert (memory.value, memory.spread) == ("18.6 GB", "quantized, AoT: one cold start")
    assert memory.control == "control: 27.7 GB, eager original: 27.7 GB"
    assert found["the size of the original's weights"].value == "0.89×"


def test_the_worst_call_is_the_one_that_is_not_finite(full: Content) -> None:
    """A record has null for it. Without that call the figure would look good."""
    assert full.verification is not None
    what = "relative error of the worst call along the original's trajectory"
    assert of(full, full.bench)[what].value == "not finite"
    finite = tuple(arm.model_copy(update={"step_errors": arm.step_errors[:3]}) for arm in full.verification.arms)
    verified = full.verification.model_copy(update={"arms": finite})
    worst = of(dataclasses.replace(full, verification=verified), full.bench)[what]
    assert (worst.value, worst.control) == ("0.03", "control: 0.006")


def test_of_several_shapes_the_figures_are_of_one_and_say_which(full: Content) -> None:
    data = bench_data()
    shape = next(item["shape"] for item in data["measured"] if item["metric"] == "step")
    other = [item | {"shape": "512x512_b1"} for item in data["measured"] if item["metric"] == "step"]
    slower = [item | {"shape": "512x512_b1", "value": 0.2} for item in data["ratios"] if item["metric"] == "step"]
    data["measured"], data["ratios"] = data["measured"] + other, slower + data["ratios"]
    found = of(full, Record.model_validate(data))
    assert found["as fast as the compiled original"].value == "1.37×"
    assert found["as fast as the compiled original"].spread.startswith(f"a step at {shape}, quantized, AoT: ")
    assert found["as fast as the eager original"].control == "control: compiling alone takes 0.75× the time"


def test_a_whole_start_is_held_against_quantizing_anew(full: Content) -> None:
    what = "as fast from the start of a process to its first step"
    plain = of(full, full.bench)[what]
    assert plain.spread == "against quantized, compiled (JIT): one round"
    data = bench_data()
    ratio = {"arm": "jit_from_original", "over": "aot", "metric": "cold, start_to_first_step", "shape": ""}
    data["ratios"].append(data["ratios"][0] | ratio | {"value": 12.8, "low": 12, "high": 13, "count": 2})
    anew = of(full, Record.model_validate(data))[what]
    assert (anew.value, anew.spread) == ("12.8×", "against quantized anew (JIT): 12.0 to 13.0 in 2 rounds")
    assert anew.control == plain.control
    assert "this: " in plain.control


def test_without_records_only_the_weights_are_known() -> None:
    content = gather(ARTIFACT)
    (item,) = headlines(None, None, content.manifest)
    assert item.spread == "95.0 kB → 84.3 kB"


def without(*arms: str) -> Record:
    data: dict[str, Any] = bench_data()
    data["measured"] = [item for item in data["measured"] if item["arm"] not in arms]
    data["ratios"] = [item for item in data["ratios"] if not {item["arm"], item["over"]} & set(arms)]
    return Record.model_validate(data)


def test_a_recipe_without_packages_is_about_its_compiled_weights(full: Content) -> None:
    record = without("aot", "aot_graphs")
    assert subject_of(record) == "jit"
    found = of(full, record)
    # The record holds jit / jit_bf16 only; it is shown as it is, not turned over.
    assert found["of the time of the compiled original"].value == "0.72×"
    assert "as fast as torch.compile of the same weights" not in found


def test_what_was_not_measured_is_not_invented(full: Content) -> None:
    found = of(full, without("jit_bf16", "jit"))
    assert "as fast as the compiled original" not in found
    assert found["as fast as the eager original"].control == "control: not measured"
    assert found["peak GPU memory"].control == "control: not measured, eager original: 27.7 GB"
    assert of(full, without("aot", "aot_graphs", "jit", "eager_quantized")).keys() == {
        "the size of the original's weights",
        "relative error of the worst call along the original's trajectory",
    }


def test_newer_records_know_the_control_over_eager(full: Content, write: Callable[..., Any]) -> None:
    data = bench_data()
    data["ratios"].append(data["ratios"][2] | {"arm": "eager", "over": "jit_bf16", "value": 1.33, "low": 1, "high": 2})
    found = of(full, Record.model_validate(data))
    assert found["as fast as the eager original"].control == "control: compiling alone is 1.33× as fast"
