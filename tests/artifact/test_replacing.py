"""An artifact takes the place of another where the file system can't exchange folders: NFS, and older kernels."""

import errno
from pathlib import Path

import pytest

from artifact.test_staging import make
from qcompile.artifact import staging
from qcompile.errors import ArtifactError


@pytest.fixture(autouse=True)
def _no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_exchange", lambda folder, target: False)


@pytest.mark.parametrize(
    ("failures", "kind", "message"),
    [(1, OSError, "disk is gone"), (2, ArtifactError, r"The old one is whole, at .*\.out\.replaced-.*/out")],
)
def test_the_old_one_is_never_lost(
    failures: int, kind: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename, failed = tmp_path / "out", Path.rename, []
    make(target, "old")

    def fails(folder: Path, to: Path) -> Path:
        if to == target and len(failed) < failures:
            failed.append(folder)
            raise OSError(errno.EIO, "disk is gone")
        return rename(folder, to)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(kind, match=message):
        make(target, "new", overwrite=True)
    (kept,) = tmp_path.rglob("file.txt")
    assert kept.read_text() == "old"
    assert (target in kept.parents) == (failures == 1)
    assert len(list(tmp_path.iterdir())) == 1
