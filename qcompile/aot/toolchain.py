"""Whether the C++ compiler can build packages that load."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from qcompile.errors import MachineError

_SOURCE = r"""
#include <iostream>
#include <string>
extern "C" long probe(const char* text) { std::string copy(text); std::cout << copy; return copy.size(); }
"""


def compiler() -> str:
    """Path of the C++ compiler that inductor will use: `CXX`, or g++.

    Raises:
        MachineError: there is none.
    """
    named = os.environ.get("CXX", "g++")
    found = shutil.which(named)
    if found is None:
        raise MachineError(
            f"no C++ compiler: {named!r} is not on the PATH. Compiling ahead of time needs one: install g++ (Debian "
            "and Ubuntu: apt-get install g++), or name yours in CXX. Or use `mode: jit`, or leave the compile step "
            "out."
        )
    return found


def check_toolchain() -> None:
    """Refuse a compiler whose packages would not load.

    AOTInductor packages are shared libraries opened in a process that holds libstdc++ already; one that brings a
    second, statically linked copy crashes that process while it is opened.

    Raises:
        MachineError: no compiler, one that fails, or one that links the C++ runtime statically.
    """
    path = compiler()
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "probe.cpp"), Path(folder, "probe.so")
        source.write_text(_SOURCE)
        result = subprocess.run(
            [path, "-shared", "-fPIC", "-o", library, source], capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            last = result.stderr.strip().splitlines()[-1:] or ["no message"]
            raise MachineError(
                f"the C++ compiler {path} can't build a shared library: {last[0]}. Install g++, or name another in CXX."
            )
        content = library.read_bytes()
    if b"libstdc++.so" not in content and b"libc++.so" not in content:
        raise MachineError(
            f"the C++ compiler {path} links the C++ runtime statically; packages built with it crash when they are "
            "loaded. Use the system's compiler: export CC=/usr/bin/gcc CXX=/usr/bin/g++"
        )
