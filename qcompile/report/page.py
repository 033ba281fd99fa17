"""Everything on one HTML page that fetches nothing: styles, script, charts and pictures are inside."""

import base64
import hashlib
import importlib.util
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.environment import rejections
from qcompile.errors import MachineError
from qcompile.report import facts, panels, quality
from qcompile.report.arms import words_of
from qcompile.report.content import Content, Picture
from qcompile.report.headline import headlines
from qcompile.report.layers import block_lists, has_quantized, layer_map, other_actions
from qcompile.version import __version__

if TYPE_CHECKING:
    import jinja2

_HERE = Path(__file__).parent
NEEDED = ("jinja2", "matplotlib")
SMALL_PX = 400
"""Pictures narrower than this are enlarged pixel by pixel."""


def missing_parts(content: Content) -> dict[str, str]:
    """What the page can't show, and the command that makes it."""
    folder = shlex.quote(str(content.artifact.folder))
    found = {}
    if content.bench is None:
        found["bench record"] = f"qcompile bench {folder} --record bench.json"
    if content.verification is None:
        found["verification"] = f"qcompile verify {folder} --record verify.json"
    return found


def caveats(content: Content) -> list[str]:
    """What has to be read with the figures: notes of the record, arms left out, bounds missed, other machines."""
    found: list[str] = []
    if content.bench:
        found += content.bench.notes
        found += [f"{arm} was left out: {reason}" for arm, reason in content.bench.absent.items()]
    if content.verification:
        missed = [check for check in content.verification.bounds if not check.holds]
        found += [f"the bound verify.{check.bound} is missed: {check.where}" for check in missed]
        if content.verification.no_control:
            found.append(f"quality has no control: {content.verification.no_control}")
    made = content.manifest.environment
    for words, record in (("measured", content.bench), ("verified", content.verification)):
        if record and rejections(made, record.environment):
            fields = ", ".join(rejection.field for rejection in rejections(made, record.environment))
            found.append(f"it was {words} in another environment than it was made in: {fields}")
    return found


def commands(content: Content) -> list[tuple[str, str]]:
    """(what it does, command) of all that leads to this page."""
    manifest, name = content.manifest, shlex.quote(content.manifest.recipe.name)
    model = "" if manifest.model.id else " --model MODEL"
    found = [
        ("Save the recipe above as a file, and carry it out", f"qcompile apply {name}.yaml{model} --out {name}"),
        (
            "Measure it" if content.bench is None else "The benchmark of this page, as it was typed",
            f"qcompile bench {name} --record bench.json" if content.bench is None else content.bench.command,
        ),
        (
            "Hold it against the original"
            if content.verification is None
            else "The verification of this page, as it was typed",
            f"qcompile verify {name} --record verify.json"
            if content.verification is None
            else content.verification.command,
        ),
    ]
    found.append(("This page", f"qcompile report {name} --record bench.json --verified verify.json"))
    return found


def render(content: Content) -> str:
    """The page as HTML. The same content gives the same text.

    Raises:
        MachineError: the libraries that draw and fill in the page are not installed.
    """
    check_libraries()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return _fill(environment, content)


def check_libraries() -> None:
    """Refuse a machine without the libraries that a report needs.

    Raises:
        MachineError: naming those that are missing.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(
            f"qcompile report needs {' and '.join(missing)}, which a machine that only serves does without. "
            "pip install 'qcompile[report]' adds what is missing."
        )


def _fill(environment: "jinja2.Environment", content: Content) -> str:
    from markupsafe import Markup

    manifest, bench, verification = content.manifest, content.bench, content.verification
    script = (_HERE / "slider.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    groups = layer_map(manifest.changes)
    words = words_of(has_quantized(groups))
    values: dict[str, Any] = {
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
        # Our own files and our own drawings; everything else is escaped.
        "style": Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "svg": Markup,
        "version": __version__,
        "manifest": manifest,
        "summary": content.summary,
        "recipe_text": content.recipe_text,
        "bench": bench,
        "verification": verification,
        "missing": missing_parts(content),
        "caveats": caveats(content),
        "headlines": headlines(bench, verification, manifest),
        "pictures": [_picture(picture) for picture in content.pictures] if content.pictures else None,
        "speed": panels.speed(bench, words) if bench else [],
        "start": panels.waterfall(bench, words) if bench else None,
        "memory": panels.memory(bench, words) if bench else [],
        "trajectory": panels.trajectory(verification) if verification else None,
        "ratios": facts.ratios(bench, words) if bench else None,
        "measurements": facts.measurements(bench.measured, words) if bench else None,
        "quantized": has_quantized(groups),
        "applied": quality.applied(content, has_quantized(groups)),
        "quality": quality.figures(verification) if verification else None,
        "bounds": quality.bounds(verification) if verification else None,
        "sensitivity": quality.sensitivity(verification) if verification and verification.sensitivity else None,
        "components": facts.components(content),
        "packages": facts.packages(content),
        "schemes": facts.schemes(groups),
        "layers": facts.layers(groups),
        "blocks": panels.blocks(block_lists(groups, manifest.changes)),
        "actions": facts.actions(other_actions(manifest.changes)),
        "environments": facts.environments(content),
        "instruction_sets": facts.instruction_sets(content),
        "commands": commands(content),
    }
    return environment.get_template("template.html").render(values)


def _picture(picture: Picture) -> dict[str, Any]:
    return {
        "source": "data:image/png;base64," + base64.b64encode(picture.content).decode(),
        "width": picture.width,
        "height": picture.height,
        "small": picture.width < SMALL_PX,
    }
