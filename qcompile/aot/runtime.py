"""A package opened in this process."""

import os
import weakref
from pathlib import Path

import torch

from qcompile.errors import MachineError
from qcompile.package import Package

# Generated code checks dtype, shape and stride of every input only where this is set before its first call. Dispatch
# has checked the arguments by then; the weights are checked here, without a cost in Python.
os.environ.setdefault("AOTI_RUNTIME_CHECK_INPUTS", "1")


class LoadedPackage:
    """One `.pt2` file, opened. Opening runs native code from the file: check its digest first.

    Not to be run by two threads at once: it is opened single-threaded, which CUDA graphs need.
    """

    def __init__(self, path: Path, package: Package, device_index: int = -1) -> None:
        """Open `path`.

        Args:
            path: the file.
            package: what the manifest says of it.
            device_index: of the GPU that it will run on for good; -1 is the current one, or a CPU.

        Raises:
            MachineError: the runtime refuses the file, built for another torch or device for one.
        """
        self.package = package
        on_current = device_index == -1 and package.call.device_type == "cuda"
        self.device_index = torch.cuda.current_device() if on_current else device_index
        try:
            # What torch._inductor.aoti_load_package comes down to, less a compiler run that probes the processor: the
            # manifest's environment record has been compared by now, and a machine that only serves needs no compiler.
            self._loader = [torch._C._aoti.AOTIModelPackageLoader(str(path), "model", True, 1, device_index)]
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            # torch has no other way to say it.
            remedy = ". It is unpacked into a temporary folder: set TMPDIR to one that takes files."
            raise MachineError(
                f"{package.file} could not be opened: {reason}{remedy if 'temporary directory' in reason else ''}"
            ) from error
        # It unpacks the file into a temporary folder, which its destructor removes; at the end of a process nobody
        # would run the destructor of what is still part of a reference cycle.
        weakref.finalize(self, self._loader.clear)

    def run(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Run the code on its inputs in the order of `package.inputs`; the list is emptied."""
        return self._loader[0].boxed_run(inputs)  # type: ignore[no-any-return]
