import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from qcompile.artifact import staging
from qcompile.artifact.manifest import MANIFEST
from qcompile.artifact.staging import check_target, staged
from qcompile.errors import ArtifactError, MachineError


def fill(folder: Path, text: str = "new") -> None:
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "file.txt").write_text(text)
    (folder / MANIFEST).write_text('{"files": {"sub/file.txt": {}}}')


def make(target: Path, text: str = "new", overwrite: bool = False) -> None:
    with staged(target, overwrite) as folder:
        fill(folder, text)


def make_after(target: Path, meanwhile: Callable[[], None]) -> None:
    with staged(target) as folder:
        fill(folder)
        meanwhile()


def fail(target: Path, error: BaseException, overwrite: bool = False) -> None:
    with staged(target, overwrite) as folder:
        fill(folder)
        raise error


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "out"
    with staged(target) as folder:
        fill(folder)
        assert not target.exists()
        assert folder.name.startswith(".out.partial-")
    assert tree(tmp_path) == [f"a/b/out/{MANIFEST}", "a/b/out/sub/file.txt"]
    assert target.stat().st_mode & 0o777 == 0o755
    assert (target / MANIFEST).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_an_interrupted_body_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        fail(tmp_path / "a" / "out", error)
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(RuntimeError), staged(tmp_path / "a" / "b" / "out"):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert list((tmp_path / "a").iterdir()) == []


def test_an_artifact_is_replaced_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "out"
    make(target, "old")
    with pytest.raises(ArtifactError, match="--overwrite") as caught, staged(target):
        pytest.fail("the body ran")
    assert caught.value.fault == "exists"
    make(target, "new", overwrite=True)
    assert (target / "sub" / "file.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failing_body_keeps_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    make(target, "old")
    with pytest.raises(RuntimeError):
        fail(target, RuntimeError(), overwrite=True)
    assert (target / "sub" / "file.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_replacing_works_where_folders_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What NFS and older kernels answer; the file system of the tests can do it.
    monkeypatch.setattr(staging, "_exchange", lambda folder, target: False)
    target = tmp_path / "out"
    make(target, "old")
    make(target, "new", overwrite=True)
    assert (target / "sub" / "file.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_target_is_there_at_every_moment_of_a_replacement(tmp_path: Path) -> None:
    target = tmp_path / "out"
    make(target, "0")
    code = (
        "import sys; from pathlib import Path; target = Path(sys.argv[1]) / 'sub' / 'file.txt'; print(flush=True)\n"
        "missing = 0\n"
        "while not (target.parents[2] / 'stop').exists():\n"
        "    try: target.read_text()\n"
        "    except FileNotFoundError: missing += 1\n"
        "print(missing)"
    )
    with subprocess.Popen([sys.executable, "-c", code, target], stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        for number in range(40):
            make(target, str(number), overwrite=True)
        (tmp_path / "stop").touch()
        missing = int(watcher.stdout.read())
    assert missing == 0


@pytest.mark.parametrize("content", ["a file", "an empty folder", "a folder with files", "a link"])
def test_what_is_no_artifact_is_never_replaced(tmp_path: Path, content: str) -> None:
    target = tmp_path / "out"
    if content == "a file":
        target.write_text("mine")
    elif content == "a link":
        make(tmp_path / "other")
        target.symlink_to(tmp_path / "other")
    else:
        target.mkdir()
        if content == "a folder with files":
            (target / "mine.txt").write_text("mine")
    before = tree(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(ArtifactError) as caught:
            make(target, overwrite=overwrite)
        assert caught.value.fault == "not_an_artifact"
        assert str(target) in str(caught.value)
    assert tree(tmp_path) == before
    assert target.is_symlink() == (content == "a link")


@pytest.mark.parametrize("name", ["mine.txt", "sub/mine.txt", ".git/config"])
def test_files_of_ones_own_in_an_artifact_are_not_lost(tmp_path: Path, name: str) -> None:
    target = tmp_path / "out"
    make(target)
    (target / name).parent.mkdir(exist_ok=True)
    (target / name).write_text("mine")
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")) as caught:
        make(target, overwrite=True)
    assert caught.value.fault == "not_an_artifact"
    assert (target / name).read_text() == "mine"


def test_a_lock_that_a_killed_run_left_is_no_file_of_ones_own(tmp_path: Path) -> None:
    target = tmp_path / "out"
    make(target, "old")
    (target / ".lock").touch()
    make(target, "new", overwrite=True)
    assert tree(target) == [MANIFEST, "sub/file.txt"]


def test_a_target_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(ArtifactError) as caught:
        make_after(target, lambda: make(target, "first"))
    assert caught.value.fault == "exists"
    assert (target / "sub" / "file.txt").read_text() == "first"


@pytest.mark.parametrize(("place", "named"), [("", "."), ("sub", ".."), ("", "sub/..")])
def test_an_artifact_is_not_replaced_from_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, named: str
) -> None:
    make(tmp_path / "my out", "old")
    (tmp_path / "link").symlink_to("my out")
    before = tree(tmp_path)
    for folder in ("my out", "link"):
        monkeypatch.chdir(tmp_path / folder / place)
        with pytest.raises(ArtifactError, match=f"Go to {tmp_path}, and name it there: --out 'my out' --overwrite"):
            make(Path(named), overwrite=True)
    assert tree(tmp_path) == before


def test_no_artifact_is_put_into_another_one(tmp_path: Path) -> None:
    make(tmp_path / "out")
    before = tree(tmp_path)
    for name in ("inner", "sub/deeper/inner"):
        with pytest.raises(ArtifactError, match="is an artifact, which takes no other files"):
            make(tmp_path / "out" / name)
    assert tree(tmp_path) == before


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="Choose another place") as caught:
        make(tmp_path / "file" / "out")
    assert caught.value.fault == "unwritable"


def start_and_kill(target: Path) -> Path:
    """A run that is killed while it writes; returns what it left."""
    code = (
        "import sys, time; from pathlib import Path; from qcompile.artifact.staging import staged\n"
        "with staged(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('x'); print(folder, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, target], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
    return folder


def test_what_dead_runs_left_is_removed_and_live_ones_stay(tmp_path: Path) -> None:
    target = tmp_path / "out[1]"  # a name that is a pattern too
    dead = start_and_kill(target)
    assert (dead / "half").exists()
    lockless = tmp_path / f".{target.name}.partial-empty"
    lockless.mkdir()
    replaced = tmp_path / f".{target.name}.partial-old"
    replaced.mkdir()
    fill(replaced)
    other = tmp_path / ".other.partial-x"
    other.mkdir()
    with staged(target) as live:
        assert not dead.exists()
        assert not lockless.exists()
        assert not replaced.exists()
        make_after(target, lambda: None)
        assert live.is_dir()
        shutil.rmtree(target)
        fill(live)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.partial-x", "out[1]"]


def test_many_runs_for_one_target_do_not_disturb_each_other(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from qcompile.artifact.staging import staged\n"
        "from qcompile.errors import ArtifactError\n"
        "for _ in range(40):\n"
        "    try:\n"
        "        with staged(Path(sys.argv[1])) as folder: (folder / 'x').write_text('x'); 1 / 0\n"
        "    except ZeroDivisionError: pass"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "out"]) for _ in range(4)]
    assert [run.wait(60) for run in runs] == [0] * 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_no_space(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(MachineError, match=r"no space is left.*has been removed"):
        fail(tmp_path / "out", error)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), staged(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to become someone who may not write")
def test_a_folder_of_someone_else(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o011)
    os.seteuid(65534)
    try:
        with pytest.raises(ArtifactError) as caught:
            make(tmp_path / "out")
    finally:
        os.seteuid(0)
    assert caught.value.fault == "unwritable"


def test_check_target_takes_a_free_name(tmp_path: Path) -> None:
    check_target(tmp_path / "out", overwrite=False)
