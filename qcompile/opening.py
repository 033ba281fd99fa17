"""`qcompile.load`: an artifact's files are checked while the libraries that will run it are imported."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.artifact.read import Artifact, read_artifact
from qcompile.errors import EnvironmentMismatch, ModelError
from qcompile.noise import quiet_imports
from qcompile.progress import Progress, Silent, stage

if TYPE_CHECKING:
    from qcompile.aot.dispatch import OnUnknownShape
    from qcompile.loader import OnMismatch


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
    # Imports take seconds of one core; digests take seconds of the disk and of other cores.
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(lambda: path if isinstance(path, Artifact) else read_artifact(Path(path).expanduser()))
        with quiet_imports():
            from qcompile import loader
        with stage(progress, "check digests"):
            artifact = opening.result()
    return loader.load(
        artifact,
        device=device,
        compiled=compiled,
        on_mismatch=on_mismatch,
        on_unknown_shape=on_unknown_shape,
        progress=progress,
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
