"""Every transformer and UNet class of diffusers goes from plan to artifact and back."""

from pathlib import Path

import pytest

from breadth.catalogue import CASES, REASONS, exported
from breadth.report import PAGE, PENDING, listed, summary
from breadth.walk import walk
from qcompile.errors import QcompileError

REPRESENTATIVE = ("LTXVideoTransformer3DModel", "SD3Transformer2DModel", "UNet2DConditionModel")
"""Compiled by `make test`; the rest by `make breadth`."""
COMPILED = [name for name, case in CASES.items() if case.not_compiled is None]
NOT_COMPILED = [name for name, case in CASES.items() if case.not_compiled is not None]


def test_every_exported_class_has_a_case_or_a_reason() -> None:
    assert sorted([*CASES, *REASONS]) == exported()


@pytest.mark.parametrize("name", CASES)
def test_quantized_saved_and_loaded(name: str, tmp_path: Path) -> None:
    walked = walk(name, CASES[name], tmp_path)
    assert walked.quantized > 0
    assert walked.blocks


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name in REPRESENTATIVE else pytest.mark.breadth)
        for name in COMPILED
    ],
)
def test_compiled(name: str, tmp_path: Path) -> None:
    walked = walk(name, CASES[name], tmp_path, compiled=True)
    assert walked.packages > 0


@pytest.mark.breadth
@pytest.mark.parametrize("name", NOT_COMPILED)
def test_what_can_not_be_compiled_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(QcompileError):
        walk(name, CASES[name], tmp_path, compiled=True)
    assert not (tmp_path / "artifact").exists()


def test_the_page_lists_every_class() -> None:
    rows = listed(PAGE.read_text(encoding="utf-8"))
    assert sorted(rows) == exported()
    for name, result in rows.items():
        reason = REASONS.get(name) or CASES[name].not_compiled
        assert result in (("passes", PENDING) if reason is None else (reason,)), name


def test_the_page_counts_what_it_lists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    results = list(listed(text).values())
    assert summary(results.count("passes"), len(results)) in text


def test_a_class_that_loses_precision_when_loaded_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompile import loader

    name = "DiTTransformer2DModel"
    load_component = loader._load_component
    monkeypatch.setattr(loader, "_load_component", lambda *args: load_component(*args).bfloat16())
    with pytest.raises(AssertionError, match="what was loaded differs from what was saved"):
        walk(name, CASES[name], tmp_path)
