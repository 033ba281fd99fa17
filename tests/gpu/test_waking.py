import subprocess
import sys

import pytest

pytestmark = pytest.mark.gpu


def test_torch_finds_the_context_that_was_made_before_it_was_imported() -> None:
    program = """
from qcompile.waking import wake
wake("cuda")
import torch
print(torch._C._cuda_hasPrimaryContext(0), torch.cuda.is_initialized())
print(int(torch.ones(3, device="cuda").sum()))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "True False\n3\n"
