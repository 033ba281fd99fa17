"""Compile every class of the catalogue and write recipes/ARCHITECTURES.md.

python tests/breadth/report.py [--jobs 2] [--fresh] [--page] [NAME...]

Results are kept in build/breadth.jsonl as they come, so that a run that was broken off goes on where it was;
`--fresh` begins anew. With names only those classes are run again.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "recipes" / "ARCHITECTURES.md"
KEPT = ROOT / "build" / "breadth.jsonl"
PENDING = "quantized, saved and loaded; not compiled yet"
"""Result of a class that `make test` takes through all but the compiler, and `make breadth` has not reached."""
_HEAD = """# Architectures

What qcompile was tried with: every class that diffusers {version} exports whose name has Transformer or UNet in it, or
that lives in diffusers' folders of those. Each is shrunken (two blocks of a kind, a few dozen features), given random
weights, and taken through plan, quantize ({schemes}, the default layers), save, load and compile (`mode: aot`,
`scope: blocks`) on a CPU. A class passes when what was loaded computes bit for bit what was saved, and when compiled
output differs from eager output by a relative error of at most {bound}.

{summary}

A shrunken class says that the code path works, not that pictures stay good: that depends on the trained weights.
`blocks` are the repeated blocks that were found and how many of each; `layers` are the linears quantized of all;
`packages` the files that were compiled; `error` is the compiled output's relative error.

Made by `make breadth`, from the cases in [tests/breadth](../tests/breadth).

| class | result | blocks | layers | packages | error |
|---|---|---|---|---|---|
"""


def summary(passes: int, classes: int) -> str:
    """The sentence that counts."""
    return f"{passes} of {classes} classes pass; the others have their reason in the table."


def listed(text: str) -> dict[str, str]:
    """Class name -> result of the page's table."""
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("|` "): row[1].strip(" |") for row in rows}


def page(results: dict[str, dict[str, Any]]) -> str:
    """The page's text, from what each class showed."""
    import diffusers

    from breadth.catalogue import CASES, REASONS, exported
    from breadth.walk import MAX_COMPILED_ERROR

    rows, passes = [], 0
    for name in exported():
        found = results.get(name, {})
        reason = REASONS.get(name) or CASES[name].not_compiled or found.get("failed") or (None if found else PENDING)
        passes += reason is None
        blocks = ", ".join(f"{count} {kind}" for kind, count in found.get("blocks", {}).items())
        layers = f"{found['quantized']} of {found['linears']}" if "linears" in found else ""
        error = found.get("compiled_error")
        cells = (
            f"`{name}`",
            reason or "passes",
            blocks,
            layers,
            str(found.get("packages") or ""),
            "" if error is None else f"{error:.1g}",
        )
        rows.append(f"| {' | '.join(cells)} |\n")
    head = _HEAD.format(
        version=diffusers.__version__,
        schemes=", ".join(f"`{scheme}`" for scheme in sorted({case.scheme for case in CASES.values()})),
        bound=MAX_COMPILED_ERROR,
        summary=summary(passes, len(rows)),
    )
    return head + "".join(rows)


def run(name: str) -> dict[str, Any]:
    """What one class shows; `failed` where it does not get through."""
    import torch

    from breadth.catalogue import CASES
    from breadth.walk import walk

    torch.set_num_threads(1)
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        try:
            return {"name": name, **asdict(walk(name, case, Path(folder), compiled=case.not_compiled is None))}
        except Exception as error:  # whatever a class does wrong belongs into its row
            traceback.print_exc()
            return {"name": name, "failed": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}


def main(arguments: Iterable[str] | None = None) -> int:
    """Run what has no result yet and write the page; returns 1 where a class failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="run these classes again")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page from what is known")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs found")
    options = parser.parse_args(None if arguments is None else [*arguments])
    from breadth.catalogue import CASES

    if options.fresh:
        KEPT.unlink(missing_ok=True)
    results = read() if KEPT.exists() else {}
    waiting = options.names or [name for name in CASES if name not in results or "failed" in results[name]]
    waiting = [] if options.page else waiting
    KEPT.parent.mkdir(exist_ok=True)
    if waiting:
        with multiprocessing.get_context("spawn").Pool(options.jobs) as pool, KEPT.open("a", encoding="utf-8") as file:
            for result in pool.imap_unordered(run, waiting, chunksize=1):
                print(json.dumps(result), file=file, flush=True)
                print(f"{result['name']}: {result.get('failed', 'passes')}", flush=True)
    results = read()
    PAGE.write_text(page(results), encoding="utf-8")
    return int(any("failed" in results.get(name, {"failed": ""}) for name in CASES))


def read() -> dict[str, dict[str, Any]]:
    """The last result of every class."""
    lines = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]
    return {line.pop("name"): line for line in lines}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT / "tests"))
    raise SystemExit(main())
