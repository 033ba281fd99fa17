"""Start a recipe as a copy of another one, comments and all."""

import argparse
import re
from pathlib import Path

_NAME = re.compile(r"^(name:[ \t]*)([^\s#]+)", re.MULTILINE)
_SCHEMA = re.compile(r"^# yaml-language-server: \$schema=\.\..*\n", re.MULTILINE)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="name of the new recipe; its file is NAME.yaml")
    parser.add_argument(
        "--from",
        metavar="RECIPE",
        required=True,
        dest="source",
        help="recipe to copy: a file, or a name such as flux_int8",
    )
    parser.add_argument("--out", metavar="FILE", help="where to write it; by default NAME.yaml in the current folder")


def run(options: argparse.Namespace) -> int:
    """Write the file; nothing is overwritten."""
    from qcompile import recipe as recipes
    from qcompile.errors import RecipeError
    from qcompile.gallery import find_recipe
    from qcompile.outside import refuse_inside_artifact

    if Path(options.name).name != options.name:
        raise RecipeError(f"NAME {options.name!r}: a word without folders; --out FILE says where the file goes.")
    source = find_recipe(options.source)
    target = Path(options.out or f"{options.name}.yaml")
    recipes.read(source)
    refuse_inside_artifact(target, "--out" if options.out else "NAME")
    if target.name != f"{options.name}.yaml":
        raise RecipeError(
            f"--out {target}: a recipe's file is called as the recipe, so this one ends in {options.name}.yaml."
        )
    text, replaced = _NAME.subn(lambda found: found[1] + options.name, source.read_text(encoding="utf-8"), count=1)
    if replaced == 0:
        raise RecipeError(
            f"{source}: its name does not stand on a line of its own (`name: …`), so it can't be replaced."
        )
    if target.parent.resolve() != source.parent.resolve():
        # The path to the schema is relative to the folder of the recipe that was copied.
        text = _SCHEMA.sub("", text)
    text = f"# Copied from {source.name}. Change it, then see what it does: qcompile plan {target}\n{text}"
    recipes.parse(text, str(target))
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise RecipeError(f"{target} exists and is left alone. Choose another NAME or --out.") from error
    except OSError as error:
        raise RecipeError(f"--out {target}: can't be written ({error.strerror}). Choose another place.") from error
    print(f"{target} is there; next: qcompile plan {target}")
    return 0
