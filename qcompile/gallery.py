"""The recipes that come with qcompile, by name."""

from pathlib import Path

from qcompile.errors import RecipeError, nearest

_HERE = Path(__file__).parent
FOLDERS = (_HERE / "recipes", _HERE.parent / "recipes")
"""Where they lie: inside the package where it was installed from a wheel, beside it in a checkout."""


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with qcompile.

    Raises:
        RecipeError: there is neither such a file nor such a recipe.
    """
    path = Path(name)
    if path.exists() or path.suffix or path.name != name:
        return path
    known = {file.stem: file for folder in FOLDERS for file in sorted(folder.glob("*.yaml"))}
    if name not in known:
        raise RecipeError(
            f"{name}: there is no such file, and no recipe of qcompile is called that; {nearest(name, known)}."
        )
    return known[name]
