"""The quantization schemes a recipe can name."""

from qcompile.schemes.scheme import Scheme
from qcompile.schemes.torchao import TORCHAO

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in TORCHAO}

__all__ = ["SCHEMES", "Scheme"]
