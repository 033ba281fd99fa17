"""Importing what other libraries import and do not use: when it is used, and not before."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    # For beta-distributed noise levels, and for LMS, in diffusers' schedulers.
    "scipy.stats": (),
    "scipy.integrate": (),
    # For losses of object detectors, which transformers imports with every model.
    "scipy.optimize": ("linear_sum_assignment",),
}
"""Modules, and the functions that are taken from them by name."""


class Deferred(ModuleType):
    """In place of a module: imports it when one of `functions` is called, or something else is asked of it."""

    def __init__(self, name: str, functions: tuple[str, ...]) -> None:
        """Import nothing yet."""
        super().__init__(name)
        self._functions = functions
        vars(self)["__path__"] = _Path(self._load)

    def __getattr__(self, name: str) -> Any:
        """What the module has; a stand-in for one of `functions`."""
        if name == "__file__":  # `inspect` asks every module for it
            raise AttributeError(name)
        return self._later(name) if name in self._functions else getattr(self._load(), name)

    def _later(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            return getattr(self._load(), name)(*arguments, **options)

        call.__name__ = call.__qualname__ = name
        return call

    def _load(self) -> ModuleType:
        if sys.modules.get(self.__name__) is self:
            sys.modules.pop(self.__name__, None)
        return importlib.import_module(self.__name__)


class _Path:
    """Where the modules of a package are looked for. `from package import name` asks whether there is one, too."""

    def __init__(self, load: Callable[[], ModuleType]) -> None:
        self._load = load

    def __iter__(self) -> Iterator[str]:
        return iter(self._load().__path__)


@contextmanager
def deferred_imports(functions: Mapping[str, tuple[str, ...]] = FUNCTIONS) -> Iterator[None]:
    """Import libraries in the body, without these modules.

    scipy is a seventh of the time it takes to import FLUX's pipeline (3.7 and 3.2 s on two processors, scipy 1.17), and
    no pipeline needs it to paint, but for two kinds of schedulers. Afterwards anybody's `import scipy.stats` is the
    real one; who has a stand-in by then finds everything in it.
    """
    placed = {name: Deferred(name, those) for name, those in functions.items() if name not in sys.modules}
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
