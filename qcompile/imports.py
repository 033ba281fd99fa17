"""Importing torch, diffusers and transformers: without a word, and without work that is done twice or for nothing."""

import functools
import gc
import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcompile.deferred import deferred_imports
from qcompile.noise import quiet_imports


@contextmanager
def library_imports() -> Iterator[None]:
    """Import libraries in the body.

    They make most of a million objects that live as long as the process. The garbage collector would look through them
    again and again and find nothing: a sixth of the time of imports, and later, while an artifact is loaded or an image
    painted, a third of a second each time. So it is off meanwhile, and passes over them ever after (`gc.freeze`). Not
    where torch is there before: then a model may be among what would be frozen, and could not be collected as garbage.

    Both diffusers and transformers 5.17 ask which packages are installed, which reads the list of files of each: a
    second where 200 are. And both import parts of scipy that painting does not need: see `deferred_imports`.
    """
    collects, scan = gc.isenabled(), importlib.metadata.packages_distributions
    models_may_exist = "torch" in sys.modules
    gc.disable()
    importlib.metadata.packages_distributions = functools.cache(scan)
    try:
        with quiet_imports(), deferred_imports():
            yield
        if not models_may_exist:
            gc.freeze()
    finally:
        importlib.metadata.packages_distributions = scan
        if collects:
            gc.enable()


def import_transformers() -> None:
    """Import transformers and its list of models, with one look at their sources.

    transformers 5 reads a thousand files of its own for the names in them, first for `transformers`, then once more for
    `transformers.models`: a quarter of a second each. Its cache tells the two apart by how the folder is written.
    """
    import transformers

    assert transformers.__file__ is not None
    models = Path(transformers.__file__).parent / "models"
    utils = transformers.utils.import_utils
    scan = getattr(utils, "create_import_structure_from_path", None)
    if scan is None:  # another transformers, which has another way
        return

    def scan_once(path: str | Path) -> object:
        return scan(models if Path(path) == models / "__init__.py" else path)

    utils.create_import_structure_from_path = scan_once
    try:
        import transformers.models
    finally:
        utils.create_import_structure_from_path = scan
