"""Check recipes without loading any model.

Every file is checked. Whether a recipe fits its model, its selectors above all, is what `qcompile plan` says.
"""

import argparse
import json

from qcompile.cli.options import add_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recipes", metavar="RECIPE", nargs="+", help="recipe file")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Check each file; errors go to stderr, one paragraph each."""
    from qcompile import recipe as recipes
    from qcompile.cli import complain
    from qcompile.errors import RecipeError

    code, results = 0, []
    for path in options.recipes:
        try:
            recipe = recipes.read(path)
        except RecipeError as error:
            complain(str(error))
            results.append({"file": path, "valid": False, "error": str(error)})
            code = error.exit_code
            continue
        steps = [step.kind for step in recipe.steps]
        results.append(
            {"file": path, "valid": True, "name": recipe.name, "version": recipe.header.version, "steps": steps}
        )
        if not options.json:
            print(f"{path}: valid ({recipe.name} version {recipe.header.version}: {', '.join(steps)})")
    if options.json:
        print(json.dumps({"recipes": results}, indent=1))
    return code
