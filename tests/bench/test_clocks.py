"""Clocks, asked of a stand-in for nvidia-smi: what cannot be there without a GPU."""

import time
from pathlib import Path

import pytest
import torch

from qcompile.bench import clocks
from qcompile.bench.clocks import Clocks, watched, watched_gpu

NEW = "Not Active, Not Active, Active"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def install(script: str) -> Path:
        path = tmp_path / "bin" / "nvidia-smi"
        path.parent.mkdir()
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
        return tmp_path / "asked"

    return install


def watch(seconds: float = 0.6) -> Clocks:
    found = Clocks()
    with watched_gpu("GPU-1234", found):
        time.sleep(seconds)
    return found


def test_samples_are_taken_while_arms_run(driver) -> None:
    asked = driver(f'case "$*" in *loop*) while true; do echo "{NEW}"; sleep 0.1; done;; *) echo "{NEW}";; esac')
    found = watch()
    assert found.samples >= 2
    assert found.note == f"the GPU's clocks were held back: power cap in {found.samples} of {found.samples} samples"
    # By its id, since its number may be another one's under CUDA_VISIBLE_DEVICES.
    assert "--id=GPU-1234" in asked.read_text()


def test_free_clocks_need_no_note(driver) -> None:
    driver(
        'while true; do echo "Not Active, Not Active, Not Active"; case "$*" in *loop*) sleep 0.1;; *) exit;; esac; done'
    )
    assert watch().note is None


def test_older_drivers_have_other_names_for_it(driver) -> None:
    driver(f'case "$*" in *clocks_event*) echo "Field is not a valid field"; exit 2;; esac\necho "{NEW}"; sleep 0.3')
    found = watch()
    assert found.samples == 1
    assert "power cap" in found.note


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('echo "No devices were found"; exit 6', "No devices were found"),
        ("sleep 60", "gave no answer (TimeoutExpired)"),
        ('case "$*" in *loop*) exit 1;; esac', "gave no sample"),
    ],
)
def test_a_driver_that_does_not_say_is_no_free_clock(
    driver, script: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "TIMEOUT_S", 0.5)
    driver(script)
    note = watch(0.1).note
    assert note.startswith("whether the GPU's clocks were held back is not known")
    assert reason in note


def test_no_driver_and_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no nvidia-smi" in watch(0).note
    with watched(torch.device("cpu")) as found:
        pass
    assert found.note is None
