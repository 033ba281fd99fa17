"""`verify` on a GPU: the arms one after the other, a control, and what stays in memory."""

from pathlib import Path

import torch

from qcompile.artifact.read import read_artifact
from qcompile.verify.verification import Request, verify


def test_packages_beside_their_control(cuda_artifact: Path) -> None:
    found = verify(cuda_artifact, num_prompts=2, request=Request(sensitivity=True))
    recorded = read_artifact(cuda_artifact).manifest.verification
    print(*(f"{arm.name}: {max(arm.measured.step_errors):.4f}" for arm in found.arms))
    control, artifact = found.arms
    assert 0 < max(control.measured.step_errors) < 0.1
    assert abs(max(artifact.measured.step_errors) / max(recorded.step_relative_error) - 1) < 0.1
    assert found.holds
    # What was recorded along the trajectory must not hold the GPU's memory.
    tensors = [value for call in found.trajectory.calls for value in call.values() if isinstance(value, torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
