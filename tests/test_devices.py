import pytest
import torch

from qcompile.devices import resolve_device
from qcompile.errors import MachineError, PlanError


def test_devices() -> None:
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(PlanError, match="no device is called that"):
        resolve_device("gpu0")
    with pytest.raises(PlanError, match="qcompile runs on cpu and cuda"):
        resolve_device("meta")
    if not torch.cuda.is_available():
        assert resolve_device(None).type == "cpu"
        with pytest.raises(MachineError, match="this machine has 0 CUDA devices"):
            resolve_device("cuda")
