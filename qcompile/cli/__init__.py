"""The command line: its parser, and what the end of a command means as an exit code.

A command is one module of this package, named as the command, with two functions: `configure(parser)` adds its
arguments and `run(options)` does the work and returns the exit code. Its docstring is its help. `run` imports what it
needs itself, so that `--help` and `validate` never load torch.

Exit codes: 0 done, 1 a check did not hold, 2 the input is wrong, 3 this machine can't do it, 70 a bug in qcompile,
130 interrupted, 141 nobody read the output, 143 terminated.
"""

import argparse
import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from qcompile.cli import (
    apply,
    bench,
    compare,
    doctor,
    generate,
    inspect,
    new,
    plan,
    profile,
    report,
    schema,
    validate,
    verify,
)
from qcompile.errors import MachineError, QcompileError
from qcompile.version import __version__

COMMANDS = (apply, plan, validate, generate, compare, verify, bench, profile, report, inspect, doctor, new, schema)
"""The commands, in the order of `--help`."""

BUG = 70
"""Exit code of an error nobody raised on purpose (EX_SOFTWARE of sysexits.h)."""
INTERRUPTED = 130
UNREAD = 141
TERMINATED = 143
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG)
"""Errors of the system that are nobody's bug: no space, no permission, a broken disk, a name that is too long."""

_EPILOG = """\
exit codes: 0 done, 1 a check did not hold, 2 the input is wrong, 3 this machine can't do it, 70 a bug in qcompile

start with:
  qcompile doctor
  qcompile plan recipes/flux_mini_int8.yaml
  qcompile apply recipes/flux_mini_int8.yaml
"""


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one paragraph, like all others."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments and exit with 2."""
        complain(f"{message.rstrip('.')}. `{self.prog} --help` shows what it takes.")
        sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows `qcompile` on the command line; by default that of this process.

    Returns:
        The exit code.
    """
    options = make_parser().parse_args(arguments)
    try:
        with _orderly_termination():
            code: int = options.run(options)
            if sys.stdout is not None:  # a shell can close it
                sys.stdout.flush()
        return code
    except QcompileError as error:
        _trace(options)
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _trace(options)
        sys.stderr.write("\nqcompile: interrupted; nothing was put in place\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except Exception as error:  # Whatever arrives here is a bug, and users are told so rather than shown its traceback.
        _trace(options)
        lines = str(error).strip().splitlines() or ["no message"]
        if isinstance(error, OSError) and error.errno in REFUSED:
            place = f"{error.filename}: " if error.filename else ""
            complain(f"{place}{error.strerror}. The system refused that; mend it there, or name another place.")
            return MachineError.exit_code
        if _is_lack_of_memory(error):
            complain(
                f"this machine has too little memory for that: {lines[0].rstrip('.')}. End other programs, use a "
                "smaller shape or batch, or a machine with more; nothing was put in place."
            )
            return MachineError.exit_code
        hint = "" if options.traceback else " run again with --traceback and"
        complain(
            f"this is a bug in qcompile, not in what you did: {type(error).__name__}: {lines[-1]}. Please{hint} open "
            f"an issue in qcompile's repository with the command and all of its output (qcompile {__version__})."
        )
        return BUG


def make_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="qcompile",
        description="Recipes that make diffusion pipelines small and fast: quantized weights and compiled code.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"qcompile {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show Python's traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        summary, _, rest = (module.__doc__ or "").strip().partition("\n")
        command = commands.add_parser(
            module.__name__.rpartition(".")[2],
            help=summary[:1].lower() + summary[1:].rstrip("."),
            description=f"{summary}\n{rest}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.configure(command)
        # After the command too; without a default, which would undo one given before it.
        command.add_argument(
            "--traceback", action="store_true", default=argparse.SUPPRESS, help="show Python's traceback of an error"
        )
        command.set_defaults(run=module.run)
    return parser


def complain(message: str) -> None:
    """Write an error to stderr as one paragraph."""
    sys.stderr.write(f"qcompile: error: {' '.join(message.split())}\n")


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether memory ran out, in Python, in torch's allocator for GPUs, or in that for CPUs, which has no class."""
    torch = sys.modules.get("torch")  # where it was never imported, it can't have raised this
    on_gpu = torch is not None and isinstance(error, torch.OutOfMemoryError)
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    return on_gpu or on_cpu or isinstance(error, MemoryError)


def _trace(options: argparse.Namespace) -> None:
    if options.traceback:
        traceback.print_exc()


@contextmanager
def _orderly_termination() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that a half-written artifact is removed."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
