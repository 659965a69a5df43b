"""The command line as a whole: its commands, and how every way of ending becomes one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from typing import Annotated

import typer

from lorabench import __version__
from lorabench.cli.ab import ab
from lorabench.cli.claims import claims
from lorabench.cli.compare import compare
from lorabench.cli.env import env
from lorabench.cli.export import export
from lorabench.cli.fit import fit
from lorabench.cli.gate import gate
from lorabench.cli.list import list_cases
from lorabench.cli.predict import predict
from lorabench.cli.report import report
from lorabench.cli.run import run
from lorabench.cli.schema import schema
from lorabench.cli.show import show
from lorabench.cli.trace import trace
from lorabench.errors import EXIT_BAD_INPUT, EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_OK, LorabenchError
from lorabench.wording import one_line

EXIT_READER_GONE = 141
"""What a shell reports of a program that SIGPIPE ended, as in ``lorabench list scenarios | head -1``."""

app = typer.Typer(
    name="lorabench",
    help="The test bench for LoRA fine-tuning: what a configuration costs in memory and time.",
    epilog="Exit codes: 0 done, 1 a regression (gate, ab), 2 bad usage or input, 3 baseline missing or not comparable, "
    "4 a case did not end ok, 70 internal error, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(predict)
app.command()(fit)
app.command("list")(list_cases)
app.command()(claims)
app.command()(show)
app.command()(compare)
app.command()(gate)
app.command()(ab)
app.command()(export)
app.command()(trace)
app.command()(report)
app.command()(env)
app.command()(schema)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lorabench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What stands before a command."""


def main() -> None:
    """Run the command line and exit as :mod:`lorabench.errors` says; whatever goes wrong is one line on stderr."""
    code = _run()
    if code == EXIT_READER_GONE:
        # What is still buffered has no reader; Python would complain about it while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run() -> int:
    try:
        if sys.stdout is None:
            # Closed by the shell (>&-). What is opened next would get its number, and with it all that is printed.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open as long as the process
        # A name in a path or in a file may hold what the terminal's encoding cannot say.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        code = app(prog_name="lorabench", standalone_mode=False)
        sys.stdout.flush()
        return code or EXIT_OK
    except SystemExit as ended:
        # Typer ends a broken pipe with 1, which means a regression here.
        return EXIT_READER_GONE if isinstance(ended.__context__, BrokenPipeError) else int(ended.code or EXIT_OK)
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_READER_GONE
    except Exception as error:
        text, code = _explain(error)
        with contextlib.suppress(OSError):
            typer.echo(one_line(text), err=True)
        return code


def _explain(error: Exception) -> tuple[str, int]:
    """What to say about ``error``, and the exit code."""
    if isinstance(error, LorabenchError):
        return str(error), error.exit_code
    if hasattr(error, "format_message"):
        # A usage error of typer's, whose class it does not export in every version.
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "lorabench"
        # Typer lists choices on lines of their own.
        message = " ".join(error.format_message().split())
        return f"{command}: {message} ('{command} --help' tells more)", EXIT_BAD_INPUT
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write the output: {error.strerror}; free some space or write elsewhere", EXIT_BAD_INPUT
    if os.environ.get("LORABENCH_DEBUG"):
        traceback.print_exc()
    return (
        f"internal error: {type(error).__name__}: {error}; "
        "please report it with the traceback that LORABENCH_DEBUG=1 prints",
        EXIT_INTERNAL,
    )
