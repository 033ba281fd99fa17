"""Measure recipes at full published size with random weights, through `qcompile bench`, and write the records.

    PYTHONPATH=.:tests python tests/gpu/measure.py flux_fp8_row sdxl_fp8 … --records recipes/measured
    PYTHONPATH=.:tests python tests/gpu/measure.py --shapes
    PYTHONPATH=.:tests python tests/gpu/measure.py --scopes
    PYTHONPATH=.:tests python tests/gpu/measure.py --jit flux_int8 --records tests/gpu/records

Models are made once, in build/full_size (tests/gpu/full_size.py). Each artifact is removed after its measurement, unless
--keep is given: those of FLUX.1-dev take 16 GB. `--shapes` compares the GPU memory of flux_fp8_row for four sizes with that
for a single size, and `--scopes` the building and the steps of it compiled by blocks with those of it compiled whole. `--jit`
times steps ahead of time and just in time, of a recipe that searches for kernels, which takes minutes just in time as well.
Artifacts that these hold against each other can be made before, by processes of their own: `--apply flux_fp8_row`,
`--apply four`, `--apply whole`, and for a profile `--apply sdxl_unsearched`; and `--applied` measures an artifact that is
there as it is.
"""

import argparse
import dataclasses
import datetime
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from qcompile.artifact.read import read_artifact
from qcompile.bench.probe import cold_start
from qcompile.bench.record import place_of
from qcompile.environment import current, processor

ROOT = Path(__file__).parents[2]
MODELS = Path("build/full_size")
"""Relative, so that the commands in records are the same everywhere."""
ARTIFACTS = Path("build/measured")
FEW_STEPS = "call.num_inference_steps=4"
"""Where single steps are measured, and not images: what apply compares with the original takes as many steps."""
RANDOM = ("verify.max_relative_error=1.0", "verify.max_compiled_error=0.5")
"""Random weights amplify rounding from block to block, so that a recipe's own bounds mean nothing."""
ONE_SIZE = "shapes=[{height: 1024, width: 1024}]"
FOUR_SIZES = (
    "shapes=[{height: 1024, width: 1024}, {height: 768, width: 1360}, {height: 1360, width: 768}, "
    "{height: 512, width: 512}]"
)
WHOLE = "steps.2.compile.scope=full"
NO_DESCENT = tuple(f"steps.{step}.inductor.options.coordinate_descent_tuning=false" for step in (7, 8))
"""sdxl_int8's coordinate descent over every kernel of the whole UNet takes longer than a machine was at hand."""
VARIANTS = {
    "whole": ("flux_fp8_row", (ONE_SIZE, FEW_STEPS, WHOLE)),
    "four": ("flux_fp8_row", (FOUR_SIZES, FEW_STEPS)),
    # The UNet's kernels without a search, for a profile.
    "sdxl_unsearched": ("sdxl_int8", (FEW_STEPS, *NO_DESCENT, "steps.9.compile.tuning=default")),
}
"""Recipes with other values."""
NOTE = "the weights are random, so that pictures mean nothing and bounds of verify are widened"


@dataclass(frozen=True)
class Measurement:
    """How one recipe is measured."""

    family: str
    """Of tests/gallery, for the model."""
    overrides: tuple[str, ...]
    options: tuple[str, ...]
    """Of `qcompile bench`."""
    beside: tuple[str, ...] = ()
    """Recipes whose artifacts are timed in the same run."""


FULL = (
    *("--arms", "eager,jit_bf16,jit,aot,aot_graphs", "--cold-arms", "jit_from_original,jit,aot", "--cold-starts", "2"),
    *("--steps", "30", "--images", "3"),
)
STEPS = ("--arms", "jit_bf16,jit,aot,aot_graphs", "--steps", "30", "--images", "0", "--cold-starts", "0", "--no-limits")
JIT = ("--arms", "jit,aot,aot_graphs", *STEPS[2:])
MEASUREMENTS = {
    "flux_fp8_row": Measurement("flux_dev", (ONE_SIZE,), FULL),
    "flux_fp8": Measurement("flux_dev", (ONE_SIZE, FEW_STEPS), STEPS),
    "flux_bf16": Measurement(
        "flux_dev", (ONE_SIZE, FEW_STEPS), ("--arms", "eager,jit_bf16,aot,aot_graphs", *STEPS[2:])
    ),
    "flux_int8": Measurement(
        "flux_dev",
        (ONE_SIZE, FEW_STEPS),
        # Not jit, nor more than one start without the artifact: each would search for kernels once more, for minutes.
        (
            *("--arms", "eager,jit_bf16,aot,aot_graphs", "--cold-arms", "jit_from_original,aot", "--cold-starts", "1"),
            *("--steps", "30", "--images", "0", "--no-limits"),
        ),
    ),
    # Beside the single scheme that is the fastest by the records of all three.
    "flux_autoquant": Measurement(
        "flux_dev", (ONE_SIZE, FEW_STEPS), ("--arms", "jit_bf16,aot", *STEPS[2:]), ("flux_fp8_row",)
    ),
    "sdxl_fp8": Measurement("sdxl", (), FULL),
    "sdxl_int8": Measurement(
        "sdxl",
        (FEW_STEPS, *NO_DESCENT),
        ("--arms", "eager,jit_bf16,aot,aot_graphs", *STEPS[2:]),
    ),
    "sdxl_bf16": Measurement(
        "sdxl", (FEW_STEPS,), ("--arms", "eager,jit_bf16,aot,aot_graphs", *STEPS[2:]), ("sdxl_fp8",)
    ),
    "wan_fp8": Measurement(
        "wan",
        # What is measured is one step, and 50 of them take minutes where apply compares with the original.
        ("shapes=[{height: 480, width: 832, frames: 81}]", "call.num_inference_steps=2"),
        ("--arms", "eager,jit_bf16,jit,aot,aot_graphs", "--steps", "5", *STEPS[4:]),
    ),
}


def main() -> int:
    """Measure what was asked for; goes on after a measurement that fails, and ends with 1 then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", choices=[*MEASUREMENTS, []], metavar="RECIPE")
    parser.add_argument("--records", type=Path, default=ARTIFACTS, help="folder for the records (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="do not remove artifacts after their measurement")
    parser.add_argument("--applied", action="store_true", help="measure artifacts that --apply made")
    parser.add_argument("--apply", choices=[*MEASUREMENTS, *VARIANTS], help="make one artifact and keep it")
    parser.add_argument(
        "--jit", choices=MEASUREMENTS, help="steps of one recipe just in time against those ahead of time"
    )
    parser.add_argument("--shapes", action="store_true", help="GPU memory of four sizes against one")
    parser.add_argument("--scopes", action="store_true", help="blocks against the whole graph")
    options = parser.parse_args()
    if not (options.recipes or options.apply or options.jit or options.shapes or options.scopes):
        parser.error("nothing to measure: name recipes, --apply, --jit, --shapes or --scopes")
    if options.apply:
        print(applied(options.apply))
    failed = [name for name in options.recipes if not measure(name, options.records, options.keep, options.applied)]
    if options.jit and not just_in_time(options.jit, options.records, options.keep):
        failed.append(options.jit)
    if options.shapes:
        note("shapes", shapes(options.keep), options.records)
    if options.scopes:
        note("scopes", scopes(options.records, options.keep), options.records)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def measure(name: str, records: Path, keep: bool, as_it_is: bool = False) -> bool:
    """Apply and measure one recipe, or measure the artifact that is there; True where a record was written."""
    chosen, out = MEASUREMENTS[name], folder_of(name)
    beside = [str(applied(other)) for other in chosen.beside]
    if as_it_is:
        source = [str(out)]
    else:
        remove(out)  # what an earlier --keep left
        source = [f"recipes/{name}.yaml", *changes(name), "--out", str(out)]
    against = ["--against", *beside] if beside else []
    done = qcompile("bench", *source, *chosen.options, *against, "--note", NOTE, "--record", str(records))
    if not keep:
        remove(out, *map(folder_of, chosen.beside))
    return done


def just_in_time(name: str, records: Path, keep: bool) -> bool:
    """Measure steps of one recipe's artifact ahead of time and just in time; True where a record was written."""
    out = applied(name)
    place = place_of(records, f"{name}_jit", current("cuda"), processor())
    done = qcompile("bench", str(out), *JIT, "--note", NOTE, "--record", str(place))
    if not keep:
        remove(out)
    return done


def note(name: str, figures: dict[str, float], records: Path) -> None:
    """Print figures that no record of `qcompile bench` has, and write them with where they come from."""
    environment = current("cuda")
    found = {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.date.today().isoformat(),
        "environment": dataclasses.asdict(environment),
        "figures": figures,
    }
    print(json.dumps(figures, indent=1))
    place = place_of(ROOT / records, name, environment, processor())
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def shapes(keep: bool) -> dict[str, float]:
    """GPU memory of a loaded artifact before and while it paints 1024x1024, for one and for four declared sizes."""
    folders = {"one": applied("flux_fp8_row"), "four": applied("four")}
    found = {
        title: cold_start("aot", ROOT / folder, "cuda", "1024x1024_b1", image=True) for title, folder in folders.items()
    }
    remove(folders["four"], *(() if keep else (folders["one"],)))
    return {
        f"{metric}, four / one": found["four"][metric] / found["one"][metric] for metric in ("resident_gpu", "peak_gpu")
    } | {f"{metric}, {title}": found[title][metric] for metric in ("resident_gpu", "peak_gpu") for title in found}


def scopes(records: Path, keep: bool) -> dict[str, float]:
    """Seconds of building by blocks and whole, and a step of each, timed in turn."""
    blocks, whole = applied("flux_fp8_row"), applied("whole")
    seconds = [
        sum(package.build_seconds for package in read_artifact(ROOT / out).manifest.packages) for out in (blocks, whole)
    ]
    record = records / "scopes_bench.json"
    words = ["bench", str(blocks), "--against", str(whole), "--arms", "aot", "--images", "0"]
    if not qcompile(*words, "--cold-starts", "0", "--no-limits", "--steps", "30", "--record", str(record)):
        raise SystemExit(f"{blocks} and {whole} could not be measured")
    ratios = {
        f"{item['arm']} / {item['over']}": item["value"] for item in json.loads((ROOT / record).read_text())["ratios"]
    }
    remove(whole, *(() if keep else (blocks,)))
    return {
        "build, blocks, s": seconds[0],
        "build, whole, s": seconds[1],
        "build, blocks / whole": seconds[0] / seconds[1],
        **ratios,
    }


def applied(name: str) -> Path:
    """The artifact's folder of a recipe or variant, applied unless that was kept."""
    out = folder_of(name)
    if (ROOT / out / "qcompile.json").exists():
        return out
    recipe = VARIANTS[name][0] if name in VARIANTS else name
    if not qcompile("apply", f"recipes/{recipe}.yaml", *changes(name), "--out", str(out)):
        raise SystemExit(f"{name} could not be applied")
    return out


def folder_of(name: str) -> Path:
    """Where the artifact of a recipe or variant lies."""
    return ARTIFACTS / name


def changes(name: str) -> list[str]:
    """Options that put a recipe's own model and values in place of others."""
    recipe, overrides = VARIANTS.get(name, (name, ()))
    chosen = MEASUREMENTS[recipe]
    overrides = overrides or chosen.overrides
    return ["--model", model(chosen.family), *(word for item in (*overrides, *RANDOM) for word in ("--set", item))]


def remove(*folders: Path) -> None:
    """Remove artifacts."""
    for folder in folders:
        shutil.rmtree(ROOT / folder, ignore_errors=True)


def model(family: str) -> str:
    """The folder of a family's model, made where it is not there."""
    folder = MODELS / family
    if not (ROOT / folder / "model_index.json").exists():
        subprocess.run([sys.executable, "tests/gpu/full_size.py", family, str(folder)], cwd=ROOT, check=True)
    return str(folder)


def qcompile(*words: str) -> bool:
    """Run the command line; True where it ended well."""
    process = subprocess.Popen([sys.executable, "-m", "qcompile.cli", *words], cwd=ROOT)
    try:
        return process.wait() == 0
    except KeyboardInterrupt:
        # It was interrupted as well, and writes what it has measured. subprocess.run would kill it.
        process.wait()
        raise


if __name__ == "__main__":
    sys.exit(main())
