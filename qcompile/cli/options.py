"""Arguments that several commands take, described once."""

import argparse
import math


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """`--model`, `--device`, `--set`: what a recipe says, said otherwise for one run."""
    parser.add_argument("--model", metavar="M", help="in place of model.id: a folder, a Hub id or builtin:NAME")
    add_device(parser)
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="change one value of the recipe, for example steps.2.quantize.scheme=int8_weight_only; may be repeated",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`."""
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def at_least_one(text: str) -> int:
    """Argparse type of counts and sizes.

    Raises:
        ArgumentTypeError: no whole number, or one below 1.
    """
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return number


def finite(text: str) -> float:
    """Argparse type of scales.

    Raises:
        ArgumentTypeError: no number, or an infinite one.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return number


def seed(text: str) -> int:
    """Argparse type of seeds.

    Raises:
        ArgumentTypeError: no whole number that torch takes for one.
    """
    number = int(text) if text.isdecimal() else -1
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 2^63 - 1")
    return number


def path(text: str) -> str:
    """Argparse type of files and folders that are written.

    Raises:
        ArgumentTypeError: it is empty, as a shell variable that is not set is.
    """
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; name a place, or leave the option out")
    return text
