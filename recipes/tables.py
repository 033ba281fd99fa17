"""Renew the tables of README.md and recipes/README.md that are made from recipes, schemes, steps and commands.

python recipes/tables.py
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from qcompile import errors
from qcompile import recipe as recipes
from qcompile.bench.record import Record
from qcompile.bench.record import read as read_bench
from qcompile.cli import COMMANDS
from qcompile.figures import read_record
from qcompile.recipe import Recipe
from qcompile.schemes import SCHEMES, Scheme
from qcompile.steps import STEPS

RECIPES = Path(__file__).parent
PAGES = (RECIPES.parent / "README.md", RECIPES / "README.md")
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def renewed(text: str) -> str:
    """A page's text with every table between its marks made anew."""
    tables = {
        "recipes": recipe_table,
        "schemes": scheme_table,
        "steps": step_table,
        "commands": command_table,
        "errors": error_table,
        "figures": figure_table,
        "measured": measured_table,
        "headline": headline,
    }
    return _BLOCK.sub(lambda found: found[1] + tables[found[2]]() + found[3], text)


def recipe_table(folder: Path = RECIPES) -> str:
    """One row for each recipe in `folder`."""
    found = [recipes.read(path) for path in sorted(folder.glob("*.yaml"))]
    rows = [
        (
            f"[{recipe.name}]({recipe.name}.yaml)",
            f"`{recipe.header.model.id}`" if recipe.header.model.id else "any",
            ", ".join(f"`{scheme}`" for scheme in schemes_of(recipe)) or "–",
            compile_of(recipe),
            runs_on(recipe),
            measured_of(recipe.name, folder),
            recipe.header.summary,
        )
        for recipe in found
    ]
    return _table(("recipe", "model", "scheme", "compile", "runs on", "measured", "summary"), rows)


def runs_on(recipe: Recipe) -> str:
    """What a recipe's schemes run on, all of them: `cpu, cuda`."""
    used = [SCHEMES[name] for name in schemes_of(recipe) if name in SCHEMES]
    devices = tuple(device for device in ("cpu", "cuda") if all(device in scheme.devices for scheme in used))
    return _where(devices, max((scheme.min_cuda_capability for scheme in used), default=(0, 0)))


def measured_of(name: str, folder: Path) -> str:
    """Links to the records of a recipe, `measured/NAME.MACHINE.json`, with what those of `qcompile bench` say."""
    found = []
    for path in sorted((folder / "measured").glob(f"{name}.*.json")):
        link = f"[{path.stem.removeprefix(f'{name}.')}](measured/{path.name})"
        record = read_bench(path) if is_of_bench(path) else None
        size = size_of(record) if record else ""
        step = record.find("aot", "step", size) if record else None
        ratio = record.ratio("jit_bf16", "aot", shape=size) if record else None
        found.append(f"{link}: {step.value:.1f} ms, {ratio.value:.2f} x at {size}" if step and ratio else link)
    return "; ".join(found) or "not yet"


def size_of(record: Record) -> str:
    """The size that all figures of a record are of in these tables, as the label of its shape.

    The first at which `aot` has a step, or else any arm: an arm may have fallen out at one size and not at another, and
    figures of two sizes say nothing beside each other.
    """
    steps = [item for item in record.measured if item.metric == "step"]
    by_preference = (*(item for item in steps if item.arm == "aot"), *steps, *record.measured)
    return next((item.shape for item in by_preference if item.shape), "")


def is_of_bench(path: Path) -> bool:
    """Whether a record is one of `qcompile bench`; the number of its layout is that of other records too."""
    return "package_bytes" in json.loads(path.read_text(encoding="utf-8"))


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
        (
            f"`{scheme.name}`",
            scheme.summary + (" (legacy)" if scheme.legacy else ""),
            scheme.backend,
            needs_of(scheme),
            _yes_or(scheme.why_not_jit) if scheme.tried else "not tried",
            _yes_or(scheme.why_not_aot) if scheme.tried else "not tried",
            _yes_or(scheme.why_not_saved),
        )
        for scheme in SCHEMES.values()
    ]
    return _table(("scheme", "what is stored and computed", "backend", "needs", "JIT", "AoT", "saves"), rows)


def needs_of(scheme: Scheme) -> str:
    """What a scheme needs of machine, model and layers, and what it lets choose."""
    rows = [f"{fewest} rows or more once compiled for {kind}" for kind, fewest in scheme.min_rows_compiled.items()]
    choices = [
        f"`{option}` of {', '.join(map(str, sorted(values)))}, by default {values[0]}"
        for option, values in (("group_size", scheme.group_sizes), ("weight_bits", scheme.weight_bits))
        if len(values) > 1
    ]
    extra = [package for package in scheme.packages if package not in ("torchao", "optimum.quanto")]
    found = [
        _where(scheme.devices, scheme.min_cuda_capability),
        *(f"the package {package}" for package in extra),
        *([f"{' or '.join(scheme.dtypes)} weights"] if scheme.dtypes else []),
        *([f"features in multiples of {scheme.feature_multiple}"] if scheme.feature_multiple > 1 else []),
        *(["in features in multiples of the group size"] if scheme.group_sizes else []),
        *rows,
        *(["captured calls to calibrate on (the denoiser)"] if scheme.calibrated else []),
        *choices,
    ]
    return "; ".join(found)


def _yes_or(why_not: str | None) -> str:
    return "yes" if why_not is None else f"no: {why_not}"


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


def figure_table(record: Path = RECIPES / "measured" / "flux_mini_int8.cpu.json") -> str:
    """One row for each figure of a record of `python -m qcompile.benchmark`."""
    _, figures = read_record(record)
    rows = [
        (item.name, item.bound, f"{item.value:.3g} {item.unit}", f"{item.low:.3g} to {item.high:.3g}", str(item.count))
        for item in figures
    ]
    return _table(("what", "target", "measured", "from … to", "values"), rows)


def measured_table(folder: Path = RECIPES / "measured") -> str:
    """One row for each record of `qcompile bench` on a GPU."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        if not is_of_bench(path):
            continue
        record = read_bench(path)
        size = size_of(record)
        steps = [record.find(arm, "step", size) for arm in ("eager", "jit_bf16", "jit", "aot")]
        pairs = (
            *(("jit_bf16", "aot", "step"), ("aot", "jit", "step")),
            *(("jit", "aot", "cold, first_step"), ("jit", "aot", "cold, start_to_first_step")),
            ("jit_from_original", "aot", "cold, start_to_first_step"),
        )
        ratios = [record.ratio(*pair, size) for pair in pairs]
        rows.append(
            (
                f"[{record.recipe}](recipes/measured/{path.name})",
                record.environment.gpu or record.processor or record.environment.device,
                size or "–",
                *(f"{item.value:.1f}" if item else "–" for item in steps),
                *(f"{item.value:#.3g}".rstrip(".") if item else "–" for item in ratios),
                f"{record.bytes_before / 1e9:.1f} → {record.bytes_after / 1e9:.1f}",
            )
        )
    names = ("eager", "compiled bf16", "quantized JIT", "AoT")
    header = ("recipe", "machine", "size", *(f"{name}, ms a step" for name in names))
    header += ("compiled bf16 / AoT", "AoT / JIT", "first step, JIT / AoT", "start to first step, JIT / AoT")
    header += ("start to first step, quantized anew / AoT", "weights, GB")
    return _table(header, rows)


def headline(record: Path = RECIPES / "measured" / "flux_fp8_row.nvidia-h200.json") -> str:
    """What a reader is told first, from one record."""
    found = read_bench(record)
    size = size_of(found)
    eager, compiled, aot = (found.find(arm, "step", size) for arm in ("eager", "jit_bf16", "aot"))
    started, anew = (found.find(arm, "cold, start_to_first_step", size) for arm in ("aot", "jit_from_original"))
    if not (eager and compiled and aot and started and anew):
        raise ValueError(f"{record} has no steps and starts of eager, jit_bf16, aot and jit_from_original at {size}")
    at = size.removesuffix("_b1")
    return f"""\
FLUX.1-dev's transformer at full size, with random weights, at {at}, recipe `{found.recipe}`, on one
{found.environment.gpu}: a step takes {aot.value:.0f} ms, where bfloat16 takes {eager.value:.0f} ms eagerly and
{compiled.value:.0f} ms compiled. With text encoders of two layers, a new process makes its first step
after {started.value:.1f} s, and after {anew.value:.1f} s where it quantizes and
compiles at every start ([figures](#results)).
"""


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
