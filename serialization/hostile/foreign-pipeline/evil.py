"""Code that no reader runs."""

import pathlib

pathlib.Path("executed").touch()
