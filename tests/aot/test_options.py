"""What torch's compilers are called with."""

import os
from pathlib import Path

import pytest
from torch._inductor.runtime import compile_tasks

from qcompile.aot.once import KEEP_SHARED
from qcompile.aot.options import SILENT, for_compiler


def test_options_go_with_those_that_keep_torch_silent() -> None:
    passes = {"post_grad_custom_post_pass": KEEP_SHARED}
    assert for_compiler({"epilogue_fusion": False}) == {**SILENT, **passes, "epilogue_fusion": False}


def test_this_process_assembles_with_the_ptxas_of_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it compiles every kernel again that they have compiled."""
    module = tmp_path / "one" / "two" / "three" / "compile_tasks.py"
    ptxas = [parent / "bin" / "ptxas" for parent in module.parents[:3]]
    for path in ptxas:  # which one it is differs between versions of torch
        path.parent.mkdir(parents=True)
        path.touch(0o755)
    monkeypatch.setattr(compile_tasks, "__file__", str(module))
    monkeypatch.setenv("TRITON_PTXAS_PATH", "")
    monkeypatch.delenv("TRITON_PTXAS_PATH")
    compile_tasks._set_triton_ptxas_path.cache_clear()
    for_compiler({})
    assert os.environ["TRITON_PTXAS_PATH"] in map(str, ptxas)
