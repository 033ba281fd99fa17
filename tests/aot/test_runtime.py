import zipfile
from pathlib import Path

import pytest

from qcompile.aot.runtime import LoadedPackage
from qcompile.errors import MachineError
from qcompile.package import CallSpec, Package


def test_a_temporary_folder_that_takes_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with zipfile.ZipFile(tmp_path / "Block.pt2", "w") as archive:
        archive.writestr("Block/data/aotinductor/model/code.so", b"")
    call = CallSpec("cpu", ())
    package = Package("transformer", "Block.pt2", "Block", ("blocks.0",), ("a",), call, (), 0, {}, {}, 0.0)
    with pytest.raises(MachineError, match="Block.pt2 could not be opened: .*: set TMPDIR to one that takes files"):
        LoadedPackage(tmp_path / "Block.pt2", package)
