"""Say what works on this machine: versions, devices, schemes, and the compiler.

A small package is built and loaded in a child process. Exit code 3 when something that compiling needs is broken.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from qcompile.cli.options import add_json
from qcompile.cli.table import table

if TYPE_CHECKING:
    from qcompile.doctor import Report


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Look and print."""
    from qcompile.cli.imports import heavy_imports
    from qcompile.cli.progress import shown
    from qcompile.errors import MachineError

    with shown(silently=options.json) as progress:
        with heavy_imports():
            import torchao.quantization  # noqa: F401 -- what it says while it is imported is held back only here

            from qcompile.doctor import diagnose
        report = diagnose(progress)
    print(json.dumps(asdict(report) | {"good": report.good}, indent=1) if options.json else text(report))
    return 0 if report.good else MachineError.exit_code


def text(report: Report) -> str:
    """The report as people read it."""
    versions = table([(name, version or "not installed") for name, version in report.versions.items()])
    devices = table([("system", report.system), *((device.name, device.description) for device in report.devices)])
    words = {(True, True): "ok", (True, False): "ok", (False, True): "BROKEN", (False, False): "SLOW"}
    checks = table([(check.name, words[check.good, check.needed], check.found) for check in report.checks])
    schemes = table(
        [("scheme", "device", ""), *((item.scheme, item.device, item.why_not or "ok") for item in report.schemes)]
    )
    verdict = (
        "all good" if report.good else "compiling ahead of time does not work here; weights, plan and `mode: jit` may"
    )
    return "\n\n".join(
        [versions, f"{devices}\n  instruction sets: {' '.join(report.cpu_isa)}", checks, schemes, verdict]
    )
