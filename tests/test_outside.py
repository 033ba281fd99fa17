import os
from pathlib import Path

import pytest

from qcompile.errors import ArtifactError
from qcompile.outside import refuse_unwritable


def test_what_no_folder_takes_is_refused_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_unwritable(tmp_path / "new" / "folder" / "a.png", "--out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for path in ("file/a.png", "file/new/a.png"):
        with pytest.raises(ArtifactError, match=f"--out .*a.png: nothing can be written under {tmp_path}/file. Choose"):
            refuse_unwritable(tmp_path / path, "--out")
    # To root, who runs tests at times, every folder is open.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    for path in ("a.png", "new/a.png"):
        with pytest.raises(ArtifactError, match=f"nothing can be written under {tmp_path}. Choose another place"):
            refuse_unwritable(tmp_path / path, "--out")
