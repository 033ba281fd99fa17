"""Print the JSON schema of recipes, of artifact manifests, or of records of `qcompile bench`."""

import argparse
import json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "of", nargs="?", choices=("recipe", "manifest", "record"), default="recipe", help="by default that of recipes"
    )


def run(options: argparse.Namespace) -> int:
    """Print it."""
    if options.of == "recipe":
        from qcompile.recipe import schema
    elif options.of == "record":
        from qcompile.bench.record import schema
    else:
        from qcompile.artifact.manifest import schema
    print(json.dumps(schema(), indent=1))
    return 0
