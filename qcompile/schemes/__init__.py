"""The quantization schemes a recipe can name."""

from qcompile.schemes.own import OWN
from qcompile.schemes.quanto import QUANTO
from qcompile.schemes.scheme import Scheme, Seen, Settings
from qcompile.schemes.torchao import TORCHAO

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in (*TORCHAO, *QUANTO, *OWN)}

__all__ = ["SCHEMES", "Scheme", "Seen", "Settings"]
