"""What the driver is asked, of a stand-in where there is none; tests/gpu has a real one."""

import ctypes
from typing import Any

import pytest
import torch

from qcompile import waking


class Driver:
    """Answers as libcuda does, with `codes` by function; 0 is success."""

    def __init__(self, **codes: int) -> None:
        self.codes, self.asked = codes, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> int:
            self.asked.append((name, *(item for item in arguments if isinstance(item, int))))
            return self.codes.get(name, 0)

        return function


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found = Driver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: found)
    return found


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)])
def test_the_context_of_a_gpu_is_made(driver: Driver, device: str, index: int) -> None:
    waking.wake(device)
    assert driver.asked == [("cuInit", 0), ("cuDeviceGet", index), ("cuDevicePrimaryCtxRetain",)]


@pytest.mark.parametrize("device", ["cpu", "meta", "cuda:x", "gpu0", "", "cuda:99999999999999999999"])
def test_what_is_no_gpu_is_left_alone(driver: Driver, device: str) -> None:
    waking.wake(device)
    assert driver.asked == []


def test_what_the_driver_refuses_is_left_to_torch(driver: Driver) -> None:
    driver.codes["cuDeviceGet"] = 101
    waking.wake("cuda:9")
    driver.codes["cuInit"] = 100
    waking.wake("cuda")
    assert driver.asked == [("cuInit", 0), ("cuDeviceGet", 9), ("cuInit", 0)]


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "DRIVER", "libcuda_that_is_not_there.so")
    waking.wake("cuda")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_what_is_run_beforehand_runs_in_every_dtype(dtype: torch.dtype) -> None:
    waking.exercise(torch.device("cpu"), dtype)
