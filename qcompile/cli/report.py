"""Show what an artifact gained and what it cost on one HTML page that fetches nothing.

Ratios, pictures, charts, layers, environment and recipe come from the artifact, and from the records that `qcompile
bench --record` and `qcompile verify --record` write. What no record was given for, the page says how to measure.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from qcompile.cli.options import add_json
from qcompile.cli.save import save

GENERATOR = b'<meta name="generator" content="qcompile'
PREAMBLE_BYTES = 1 << 16
"""Of a report, more than what comes before that; only reports are replaced."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path, help="folder that `qcompile apply` wrote")
    parser.add_argument("--record", metavar="FILE", type=Path, help="what `qcompile bench --record` wrote")
    parser.add_argument("--verified", metavar="FILE", type=Path, help="what `qcompile verify --record` wrote")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("report.html"), help="the page (default: report.html)"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Gather, draw, write."""
    from qcompile.report.content import gather
    from qcompile.report.page import check_libraries, missing_parts, render
    from qcompile.report.quantities import quantity

    _check_out(options.out)
    check_libraries()
    content = gather(options.artifact, options.record, options.verified)
    page = render(content).encode("utf-8", errors="replace")  # a folder may be called anything
    save(options.out, lambda out: out.write_bytes(page))
    missing = missing_parts(content)
    if options.json:
        print(json.dumps({"report": str(options.out), "bytes": len(page), "missing": missing}, indent=1))
        return 0
    for what, command in missing.items():
        print(f"no {what}; this makes one: {command}")
    print(f"look at {options.out} ({quantity(len(page), 'bytes')})")
    return 0


def _check_out(out: Path) -> None:
    """Refuse a file that can't be written, or must not be, before any work is done."""
    from qcompile.errors import ArtifactError
    from qcompile.outside import refuse_inside_artifact, refuse_unwritable

    if out.suffix.lower() not in (".html", ".htm"):
        raise ArtifactError("unwritable", f"--out {out}: the page is an HTML file. Call it NAME.html.")
    if out.is_dir():
        raise ArtifactError("unwritable", f"--out {out} is a folder. Name a file in it.")
    refuse_inside_artifact(out, "--out")
    refuse_unwritable(out, "--out")
    if out.exists() and GENERATOR not in out.read_bytes()[:PREAMBLE_BYTES]:
        raise ArtifactError("unwritable", f"--out {out} is there and no report of qcompile. Choose another place.")
