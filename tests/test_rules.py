"""Rules of the code base, read from the syntax tree. Each rule is also tried on bad source, so that it can fail."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "qcompile"

RANKS = (
    ("cli",),
    ("benchmark", "report"),
    ("bench", "profiler", "sheet", "doctor"),
    ("verify",),
    ("compare",),
    ("opening",),
    ("loader", "runner"),
    ("built", "autoquant"),
    ("planner",),
    ("quality",),
    ("images",),
    ("original",),
    ("subject",),
    ("pipeline", "hints"),
    ("source",),
    ("recipe",),
    ("header",),
    ("document", "steps"),
    ("devices",),
    ("schemes", "aot", "selectors", "artifact", "streaming", "aside", "record_file"),
    ("outside", "imports"),
    (
        "modules",
        "layers",
        "lora",
        "environment",
        "noise",
        "deferred",
        "waking",
        "progress",
        "figures",
        "weights",
        "known_values",
        "gallery",
        "after_import",
        "distributions",
    ),
    ("fold",),
    ("change", "package", "builtin", "bytecode"),
    ("errors", "version", "exclusive"),
)
"""From the top down; a module imports from lower ranks only, and inside its own package."""
APART = {"artifact": {"steps", "schemes"}, "builtin": {"errors", "version"}}
"""What stays apart whatever its rank: the format outlives steps and schemes, a builtin model knows nothing of us."""
HEAVY = {
    "torch",
    "torchao",
    "diffusers",
    "transformers",
    "accelerate",
    "numpy",
    "scipy",
    "rich",
    "PIL",
    "matplotlib",
    "jinja2",
}
LIGHT = ("qcompile", "qcompile.cli", "qcompile.recipe", "qcompile.steps", "qcompile.schemes", "qcompile.source")
"""Modules whose import must reach nothing heavy: `--help` takes 0.4 s, `validate` one."""
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
VAGUE = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
MAX_LINES = 300


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    """`qcompile.aot.build` for qcompile/aot/build.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FOLDERS = ("qcompile", "tests", "serialization", "recipes")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes(tree: ast.AST, at_import: bool = False) -> Iterator[ast.AST]:
    """All nodes below `tree`; with `at_import` only what runs when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if at_import and (function or for_types_only(child)):
            continue
        yield child
        yield from nodes(child, at_import)


def imports(tree: ast.AST, at_import: bool = False) -> set[str]:
    """Modules that are imported, by full name; `from a import b` gives a.b where that is a module of ours, else a."""
    found: set[str] = set()
    for node in nodes(tree, at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in inner}
    return found


def part(name: str) -> str:
    """`aot` of `qcompile.aot.build`."""
    return [*name.split("."), ""][1]


def rank(name: str) -> int:
    found = [index for index, names in enumerate(RANKS) if part(name) in names]
    assert found, f"{name} has no place in RANKS: say where it stands"
    return found[0]


def wrong_direction(name: str, tree: ast.AST) -> list[str]:
    """Imports of the module `name` that go up, sideways, or where it must not."""
    wrong = []
    for target in imports(tree):
        if target.split(".")[0] != "qcompile" or part(target) == part(name):
            continue
        if part(target) == "" and part(name) == "cli":
            continue
        if part(target) == "" or rank(target) <= rank(name) or part(target) in APART.get(part(name), ()):
            wrong.append(f"{name} imports {target}")
    return wrong


def heavy_at_import(name: str, trees: dict[str, ast.Module]) -> list[str]:
    """Heavy packages that importing the module `name` loads, with the module that asks for each."""
    waiting, seen, found = [name], set(), []
    while waiting:
        current = waiting.pop()
        if current in seen or current not in trees:
            continue
        seen.add(current)
        loaded = imports(trees[current], at_import=True)
        found += [f"{current} imports {other}" for other in loaded if other.split(".")[0] in HEAVY]
        waiting += [other.rsplit(".", cut)[0] for other in (*loaded, current) for cut in range(other.count(".") + 1)]
    return sorted(found)


def open_keywords(tree: ast.AST) -> list[str]:
    """Public functions and methods that take `**kwargs`."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_") and node.args.kwarg is not None:
                found.append(f"{node.name}(**{node.args.kwarg.arg})")
        elif not (isinstance(node, ast.ClassDef) and node.name.startswith("_")):
            found += open_keywords(node)
    return found


def pickling(tree: ast.AST) -> list[str]:
    """What reads or writes pickled data."""
    found = [name for name in imports(tree) if name.split(".")[0] in PICKLES]
    for node in nodes(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.save", "torch.load", "yaml.load"):
            found.append(ast.unparse(node))
        if isinstance(node, ast.keyword) and node.arg == "weights_only" and ast.unparse(node.value) != "True":
            found.append(ast.unparse(node))
    return found


def inductor(tree: ast.AST) -> list[str]:
    """Uses of torch._inductor."""
    named = [name for name in imports(tree) if "_inductor" in name.split(".")]
    return named + [
        ast.unparse(node) for node in nodes(tree) if isinstance(node, ast.Attribute) and node.attr == "_inductor"
    ]


def swallowing(tree: ast.AST) -> list[str]:
    """`except:` and `except Exception:`, which hide bugs."""
    kinds = [node.type for node in nodes(tree) if isinstance(node, ast.ExceptHandler)]
    broad = {"Exception", "BaseException"}
    return [ast.unparse(kind) if kind else "bare" for kind in kinds if kind is None or ast.unparse(kind) in broad]


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str) -> None:
    tree = parsed(MODULES[name])
    if name != "qcompile":
        assert wrong_direction(name, tree) == []
    assert open_keywords(tree) == []
    assert pickling(tree) == []
    if part(name) != "aot" and name != "qcompile.steps.compile":
        assert inductor(tree) == []
    if name != "qcompile.cli":  # the one place where a bug becomes a message
        assert swallowing(tree) == []
    if part(name) == "schemes":
        assert {other.split(".")[0] for other in imports(tree, at_import=True)} & {"torchao", "optimum"} == set()


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_load_nothing_heavy(name: str) -> None:
    assert heavy_at_import(name, {module: parsed(path) for module, path in MODULES.items()}) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file(path: Path) -> None:
    assert path.name not in VAGUE
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_test_folders_mirror_the_package() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*.py")}
    # Not about one part of the package: gpu/ is run by hand, breadth/ over all of diffusers, gallery/ over all recipes.
    assert {str(folder) for folder in folders if not (PACKAGE / folder).is_dir()} == {"gpu", "breadth", "gallery"}


def test_every_rank_is_a_module() -> None:
    assert {f"qcompile.{name}" for names in RANKS for name in names} - MODULES.keys() == set()


@pytest.mark.parametrize(
    ("name", "source", "count"),
    [
        ("qcompile.planner", "import qcompile.runner", 1),
        ("qcompile.planner", "from qcompile import runner, recipe", 1),
        ("qcompile.planner", "def f():\n    from qcompile.loader import load", 1),
        ("qcompile.planner", "from qcompile import plan", 1),
        ("qcompile.loader", "from qcompile.runner import apply", 1),
        ("qcompile.runner", "from qcompile.cli import main", 1),
        ("qcompile.artifact.read", "from qcompile.schemes import SCHEMES", 1),
        ("qcompile.artifact.read", "from qcompile.artifact.write import file_digest", 0),
        ("qcompile.builtin.score", "from qcompile.errors import ModelError", 1),
        ("qcompile.steps.compile", "from qcompile.aot.build import build_packages", 0),
        ("qcompile.cli.apply", "import qcompile", 0),
    ],
)
def test_direction_can_fail(name: str, source: str, count: int) -> None:
    assert len(wrong_direction(name, ast.parse(source))) == count


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import torch", 1),
        ("try:\n    from torch import nn\nexcept ImportError:\n    pass", 1),
        ("class A:\n    import torchao.quantization", 1),
        ("from qcompile.a import f", 1),
        ("def f():\n    import torch", 0),
        ("if TYPE_CHECKING:\n    import torch", 0),
    ],
)
def test_heavy_imports_can_be_found(source: str, count: int) -> None:
    trees = {"qcompile.x": ast.parse(source), "qcompile.a": ast.parse("import diffusers")}
    assert len(heavy_at_import("qcompile.x", trees)) == count


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (open_keywords, "def f(**kwargs): ...", "def _f(**kwargs): ..."),
        (open_keywords, "class A:\n    def f(self, **options): ...", "class A:\n    def __call__(self, **k): ..."),
        (open_keywords, "if x:\n    def f(**kwargs): ...", "def f():\n    def g(**kwargs): ..."),
        (pickling, "import pickle", "import json"),
        (pickling, "def f():\n    from cloudpickle import dumps", "from pickles import dumps"),
        (pickling, "torch.save(model, path)", "save_file(model, path)"),
        (pickling, "load(path, weights_only=False)", "load(path, weights_only=True)"),
        (inductor, "import torch._inductor.config", "import torch"),
        (inductor, "torch._inductor.config.x = 1", "Config(set_inductor_config=False)"),
        (swallowing, "try: f()\nexcept Exception: pass", "try: f()\nexcept OSError: pass"),
        (swallowing, "try: f()\nexcept: pass", "try: f()\nfinally: g()"),
    ],
)
def test_checks_can_fail(check: Callable[[ast.AST], list[str]], bad: str, good: str) -> None:
    assert len(check(ast.parse(bad))) == 1
    assert check(ast.parse(good)) == []
