"""Importing torch, diffusers and transformers: without a word, and without work that is done twice or for nothing."""

import gc
import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from types import ModuleType

from qcompile.after_import import after_import
from qcompile.deferred import deferred_imports
from qcompile.distributions import Distributions
from qcompile.exclusive import EXCLUSIVE
from qcompile.noise import quiet_imports

SCAN, NAMES = "create_import_structure_from_path", "fetch__all__"
"""Of transformers.utils.import_utils: the names in a folder of sources, and in one source."""


@contextmanager
def library_imports() -> Iterator[None]:
    """Import libraries in the body.

    They make most of a million objects that live as long as the process. The garbage collector would look through them
    again and again and find nothing: a sixth of the time of imports, and later, while an artifact is loaded or an image
    painted, a third of a second each time. So it is off meanwhile, and passes over them ever after (`gc.freeze`). Not
    where torch is there before: then a model may be among what would be frozen, and could not be collected as garbage.

    Both diffusers and transformers 5.17 ask which packages are installed: see `Distributions`. And both import parts of
    scipy that painting does not need: see `deferred_imports`.
    """
    with EXCLUSIVE:
        collects, scan = gc.isenabled(), importlib.metadata.packages_distributions
        models_may_exist = "torch" in sys.modules
        gc.disable()
        importlib.metadata.packages_distributions = cache(Distributions)
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
    """Import transformers and its list of models, with one look at their sources, and a quick one.

    transformers 5 reads a thousand files of its own for the names in them, first for `transformers`, then once more for
    `transformers.models`: a quarter of a second each. Its cache tells the two apart by how the folder is written. Half
    of that time it looks, from the top of each file and line by line, for the last line that begins with `__all__`.
    """
    with ExitStack() as originals, after_import("transformers.utils.import_utils", partial(_quicken, originals)):
        import transformers.models  # noqa: F401 (to have it)


def _quicken(originals: ExitStack, utils: ModuleType) -> None:
    scan, names = getattr(utils, SCAN, None), getattr(utils, NAMES, None)
    if scan is None or names is None:  # another transformers, which has another way
        return
    models = Path(str(utils.__file__)).parents[1] / "models"
    listing = str(models / "__init__.py")
    for name, original, quick in (
        (SCAN, scan, lambda path: scan(models if str(path) == listing else path)),
        (NAMES, names, lambda source: names(source[source.rfind("\n__all__") + 1 :])),
    ):
        originals.callback(setattr, utils, name, original)
        setattr(utils, name, quick)
