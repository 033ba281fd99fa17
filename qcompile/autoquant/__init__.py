"""`scheme: autoquant`: the fastest scheme that is accurate enough, measured layer shape by layer shape.

torchao had an autoquant and removed it (pytorch/ao#3739). This one changes no model: it turns a recipe into an explicit
one, which anybody can read, keep and apply without measuring again.
"""

from qcompile.autoquant.resolution import Measurement, Resolution
from qcompile.autoquant.resolver import resolve

__all__ = ["Measurement", "Resolution", "resolve"]
