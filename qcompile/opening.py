"""`qcompile.load`: an artifact's files are checked and read while the libraries that will run it are imported."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.artifact.read import Artifact, listed, read_artifact, verify
from qcompile.errors import ArtifactError, EnvironmentMismatch, ModelError
from qcompile.imports import import_transformers, library_imports
from qcompile.progress import Progress, Silent, stage
from qcompile.waking import exercise, wake

if TYPE_CHECKING:
    from qcompile.aot.dispatch import OnUnknownShape
    from qcompile.artifact.manifest import Manifest
    from qcompile.artifact.stored import Ahead
    from qcompile.loader import OnMismatch

READ_AHEAD = ("cuda",)
"""Kinds of devices that weights are brought to ahead; on a CPU they are there already."""


def load(
    path: str | Path | Artifact,
    *,
    device: str | None = None,
    compiled: bool = True,
    on_mismatch: OnMismatch = "error",
    on_unknown_shape: OnUnknownShape = "error",
    trust_compiled: bool = False,
    progress: Progress | None = None,
) -> Any:
    """Load an artifact.

    Loading compiled code is trusting its author: a package is native code. Digests are checked before it is opened.

    Args:
        path: an artifact folder, the Hub id of one, or an `Artifact`, which is verified already.
        device: `cpu`, `cuda` or `cuda:N`; by default the kind the artifact was made on.
        compiled: False opens no package; the pipeline runs eagerly with the quantized weights.
        on_mismatch: what to do where packages were built for another machine or other versions: raise, compile anew for
            this process, or run eagerly.
        on_unknown_shape: what a call does for which there is no package: raise, or run eagerly.
        trust_compiled: needed to open packages of an artifact from the Hub.
        progress: told what happens.

    Returns:
        The diffusers pipeline, or the model where the artifact was made from a bare one.

    Raises:
        ArtifactError: the folder is not a whole artifact.
        EnvironmentMismatch: packages don't fit this machine, and `on_mismatch` is `error`.
        MachineError: there is no such device.
    """
    progress = progress or Silent()
    if not isinstance(path, Artifact) and not _is_folder(path):
        # Here, since it imports the Hub's library, which diffusers imports too.
        path = open_artifact(path, compiled, trust_compiled)
    artifact, ahead = open_beside_imports(path, device, compiled, progress)
    from qcompile import loader

    return loader.load(
        artifact,
        device=device,
        compiled=compiled,
        on_mismatch=on_mismatch,
        on_unknown_shape=on_unknown_shape,
        progress=progress,
        ahead=ahead,
    )


def open_beside_imports(
    path: str | Path | Artifact, device: str | None, compiled: bool, progress: Progress, weights: bool = True
) -> tuple[Artifact, dict[str, Ahead]]:
    """Import what `load` needs, while an artifact is verified and, for a GPU, its weights are brought there.

    Imports take seconds of one core; the rest takes seconds of the driver, of the disk, of other cores and of the bus.

    Args:
        path: a folder, or an `Artifact`, which is verified already.
        device: as `load` takes it.
        compiled: as `load` takes it.
        progress: told what is waited for at the end.
        weights: False verifies only.

    Returns:
        The artifact and the files of its components, by component, where they were read.

    Raises:
        ArtifactError: the folder is not a whole artifact; where it is none at all, before anything is imported.
        PlanError, MachineError: there is no such device.
    """
    known = path if isinstance(path, Artifact) else None
    folder = known.folder if known else Path(path).expanduser()  # type: ignore[arg-type]
    listing = _list(folder, known)
    with ThreadPoolExecutor() as pool:
        checking = pool.submit(lambda: known or verify(folder, listing.manifest))
        waking = pool.submit(wake, device or listing.manifest.environment.device) if weights else None
        with library_imports():
            import torch  # noqa: F401 (the others need it, and two threads had better not import it at once)

            reading = pool.submit(_bring, pool, folder, listing.manifest, waking, device, compiled) if waking else None
            import_transformers()
            from qcompile import loader

            with stage(progress, "check digests"):
                artifact = checking.result()
            loader.import_classes(artifact)
        with stage(progress, "read weights"):
            ahead = reading.result() if reading else {}
    if ahead:
        _refuse_changes(folder, listing)
    return artifact, ahead


@dataclass(frozen=True)
class _Listing:
    manifest: Manifest
    stamps: dict[str, tuple[int, ...]]
    """What tells of each file whether it was written to, by path, as it was before its digest was computed.

    None where digests were compared long ago: what happens to files after that is not looked for.
    """


def _list(folder: Path, known: Artifact | None) -> _Listing:
    if known:
        return _Listing(known.manifest, {})
    manifest = listed(folder)
    return _Listing(manifest, {path: _stamp(folder / path) for path in manifest.files})


def _stamp(path: Path) -> tuple[int, ...]:
    # The last one, when the file's record was changed, can be set by no program; the others are there for systems whose
    # clocks are coarse.
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _bring(
    pool: Executor,
    folder: Path,
    manifest: Manifest,
    waking: Future[None],
    device: str | None,
    compiled: bool,
) -> dict[str, Ahead]:
    """Bring files of weights to a GPU, by component, as they are: their digests may not have been compared yet."""
    import torch

    from qcompile.artifact.stored import read_ahead
    from qcompile.devices import device_of

    # torch holds the interpreter's lock while it waits for a driver that is about to wake.
    waking.result()
    where = device_of(manifest, device, compiled)
    if where.type not in READ_AHEAD:
        return {}
    # What fails there fails in the first step too, if that needs it.
    pool.submit(exercise, where, getattr(torch, manifest.model.dtype))
    components = manifest.components.items()
    return {name: read_ahead(folder / name, where) for name, held in components if held.stored == "qcompile"}


def _refuse_changes(folder: Path, listing: _Listing) -> None:
    """Refuse an artifact that was written to since: what was brought may be something else than what was compared.

    Raises:
        ArtifactError: naming the file.
    """
    for path, before in listing.stamps.items():
        if _stamp(folder / path) != before:
            raise ArtifactError(
                "changed_file",
                f"{folder / path} was written to, or moved, while it was loaded. Load it once it is there as a whole.",
            )


def open_artifact(path: str | Path, compiled: bool = True, trust_compiled: bool = False) -> Artifact:
    """Find and verify what `load` is asked for; see there."""
    if _is_folder(path):
        return read_artifact(Path(path).expanduser())
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot = snapshot_download(str(path), ignore_patterns=[".gitattributes", "README.md"])
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"{path} is no local folder, and the Hub can't be reached or has no such artifact "
            f"({type(error).__name__}). Name the folder of an artifact."
        ) from error
    artifact = read_artifact(snapshot, allow_links=True)
    if artifact.manifest.packages and compiled and not trust_compiled:
        raise EnvironmentMismatch(
            ("trust_compiled",),
            f"{path} holds compiled packages, native code that runs with your rights. Pass trust_compiled=True if you "
            "trust its author, or compiled=False to use the weights alone.",
        )
    return artifact


def _is_folder(path: str | Path) -> bool:
    """Whether `path` means a folder here; else it is the id of a repository of the Hub, `owner/name`."""
    return Path(path).expanduser().exists() or str(path).count("/") != 1 or str(path).startswith((".", "/", "~"))
