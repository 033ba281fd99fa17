"""Renew the tables of README.md and recipes/README.md that are made from recipes, schemes, steps and commands.

python recipes/tables.py
"""

import re
from collections.abc import Iterable
from pathlib import Path

from qcompile import errors
from qcompile import recipe as recipes
from qcompile.cli import COMMANDS
from qcompile.recipe import Recipe
from qcompile.schemes import SCHEMES
from qcompile.steps import STEPS

RECIPES = Path(__file__).parent
PAGES = (RECIPES.parent / "README.md", RECIPES / "README.md")
WAITING = {
    "flux_fp8": "float8_tensor",
    "flux_fp8_row": "float8_row",
    "flux_lora_int8": "fuse_lora",
    "flux_schnell_fp8": "float8_row",
    "flux2_fp8": "float8_row",
    "sdxl_int8": "swap_conv1x1",
    "sdxl_fp8": "tune_scheduler",
    "cogvideox_5b_fp8_row": "float8_row",
    "wan_fp8": "float8_row",
    "hunyuan_video_fp8": "float8_row",
    "qwen_image_fp8": "float8_row",
    "quanto_int8": "quanto_int8",
}
"""Recipes that use a word which does not exist yet, and the word. They are in no table until it does."""
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def renewed(text: str) -> str:
    """A page's text with every table between its marks made anew."""
    tables = {
        "recipes": recipe_table,
        "schemes": scheme_table,
        "steps": step_table,
        "commands": command_table,
        "errors": error_table,
    }
    return _BLOCK.sub(lambda found: found[1] + tables[found[2]]() + found[3], text)


def recipe_table(folder: Path = RECIPES) -> str:
    """One row for each recipe in `folder`."""
    found = [recipes.read(path) for path in sorted(folder.glob("*.yaml")) if path.stem not in WAITING]
    rows = [
        (
            f"[{recipe.name}]({recipe.name}.yaml)",
            f"`{recipe.header.model.id}`",
            ", ".join(f"`{scheme}`" for scheme in schemes_of(recipe)) or "–",
            compile_of(recipe),
            needs_of(recipe),
            measured_of(recipe.name, folder),
            recipe.header.summary,
        )
        for recipe in found
    ]
    return _table(("recipe", "model", "scheme", "compile", "runs on", "measured", "summary"), rows)


def needs_of(recipe: Recipe) -> str:
    """What a recipe's schemes run on, all of them: `cpu, cuda`."""
    used = [SCHEMES[name] for name in schemes_of(recipe)]
    devices = tuple(device for device in ("cpu", "cuda") if all(device in scheme.devices for scheme in used))
    return _where(devices, max((scheme.min_cuda_capability for scheme in used), default=(0, 0)))


def measured_of(name: str, folder: Path) -> str:
    """Links to the records of a recipe, `measured/NAME.MACHINE.json`."""
    records = sorted((folder / "measured").glob(f"{name}.*.json"))
    return ", ".join(f"[{path.stem.removeprefix(f'{name}.')}](measured/{path.name})" for path in records) or "not yet"


def schemes_of(recipe: Recipe) -> list[str]:
    """The schemes a recipe uses, in order."""
    return list(dict.fromkeys(step.scheme for step in recipe.steps if hasattr(step, "scheme")))


def compile_of(recipe: Recipe) -> str:
    """How a recipe compiles: `aot, blocks`."""
    found = [f"{step.mode}, {step.scope}" for step in recipe.steps if hasattr(step, "mode") and hasattr(step, "scope")]
    return "; ".join(found) or "–"


def scheme_table() -> str:
    """One row for each quantization scheme."""
    rows = [
        (f"`{scheme.name}`", scheme.summary, scheme.backend, _where(scheme.devices, scheme.min_cuda_capability))
        for scheme in SCHEMES.values()
    ]
    return _table(("scheme", "what is stored and computed", "backend", "runs on"), rows)


def step_table() -> str:
    """One row for each step, in the order of phases."""
    rows = [
        (f"`{step.kind}`", step.phase.name, (step.__doc__ or "").strip().splitlines()[0], _options(step.model_fields))
        for step in sorted(STEPS, key=lambda step: step.phase)
    ]
    return _table(("step", "phase", "what it does", "options"), rows)


def command_table() -> str:
    """One row for each command."""
    rows = [
        (f"`qcompile {module.__name__.rpartition('.')[2]}`", (module.__doc__ or "").splitlines()[0])
        for module in COMMANDS
    ]
    return _table(("command", "what it does"), rows)


def error_table() -> str:
    """One row for each error class, with the exit code of commands that end in it."""
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.QcompileError)
    ]
    rows = [(f"`{kind.__name__}`", str(kind.exit_code), (kind.__doc__ or "").splitlines()[0]) for kind in kinds[1:]]
    return _table(("error", "exit code", "means"), rows)


def _where(devices: tuple[str, ...], capability: tuple[int, int]) -> str:
    at_least = f" (compute capability {capability[0]}.{capability[1]} or higher)" if any(capability) else ""
    return ", ".join(f"{device}{at_least if device == 'cuda' else ''}" for device in devices)


def _options(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    cells = [header, *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    lines = [f"| {' | '.join(row)} |\n" for row in cells]
    return "".join([lines[0], "|---" * len(header) + "|\n", *lines[1:]])


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
