"""The `pilotfish` command: one file a command, loaded only when it is called.

The only place that knows exit codes: 0 done, 1 the honest answer is no, 2 the user must act,
3 a model server failed, 4 our fault; 130 and 143 where Ctrl-C or SIGTERM stopped the work. Errors become
one sentence on standard error; a traceback is shown only for our own faults, or with PILOTFISH_DEBUG set.
"""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

import click

from pilotfish.core.errors import ModelError, PilotfishError, SpecialistError, StoreError, UserError
from pilotfish.core.version import __version__

EXIT_DONE, EXIT_NO, EXIT_USER, EXIT_MODEL, EXIT_FAULT = 0, 1, 2, 3, 4

# Command name to the file that holds it and the line of help, so that --help loads none of them.
COMMANDS = {
    "serve": ("pilotfish.cli.serve", "Stand in front of the large model: an OpenAI-compatible gateway."),
    "backtest": ("pilotfish.cli.backtest", "What if Pilotfish had stood in front of this recorded traffic?"),
    "compare": ("pilotfish.cli.compare", "Which model is better on my data, and is the smaller one good enough?"),
    "advise": ("pilotfish.cli.advise", "Which model should I take, and what would change that?"),
    "route": ("pilotfish.cli.route", "Should a smaller model answer some open requests, and what would that cost?"),
    "demo": ("pilotfish.cli.demo", "Run the whole loop on bundled example traffic, in under a minute."),
    "tasks": ("pilotfish.cli.tasks", "What recurs in my log?"),
    "distil": ("pilotfish.cli.distil", "Learn a specialist for a task, and certify or refuse it."),
    "certify": ("pilotfish.cli.certify", "Show, or recompute, what is promised for a task."),
    "promote": ("pilotfish.cli.promote", "Let a task's certified specialist answer."),
    "demote": ("pilotfish.cli.demote", "Send a task back to the large model."),
    "export": ("pilotfish.cli.export", "Write a certified specialist as a folder that needs no Pilotfish."),
    "forget": ("pilotfish.cli.forget", "Give past answers of a task no more."),
    "explain": ("pilotfish.cli.explain", "Why did this model answer this request?"),
    "log": ("pilotfish.cli.log", "List, show, export and prune what was recorded."),
    "keys": ("pilotfish.cli.keys", "Create, list, rotate and revoke the keys that clients need."),
    "finetune": ("pilotfish.cli.finetune", "Teach a small generative model the reference's answers, or a text."),
    "quantize": ("pilotfish.cli.quantize", "What does a model lose in fewer bits, and what does that save?"),
    "inspect": ("pilotfish.cli.inspect", "What is this model, and what does it cost to run? Before it is downloaded."),
    "check-claims": ("pilotfish.cli.check_claims", "Are a text's claims about models right?"),
    "prices": ("pilotfish.cli.prices", "What do my models cost, and since when is that known?"),
    "config": ("pilotfish.cli.config", "Show and check the configuration."),
    "doctor": ("pilotfish.cli.doctor", "Check this installation, its folders and its log."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when help is printed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of a user's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The `command` of the file that the table names."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named; a misspelt name gets the nearest one as a hint."""
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and near:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - what the command returns
        """Run the command; that the reader of our output has gone (`| head`) is no error."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Nothing more can be flushed into it, at exit neither.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_DONE
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table's own lines of help: importing a command for its docstring would load its libraries."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pilotfish")
def root() -> None:
    """Every request goes to the smallest model that is good enough, with proof.

    Exit codes: 0 done, 1 the honest answer is no, 2 you must act, 3 a model server failed, 4 our fault.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.excepthook = _fault
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        # The matrices here are small: more threads cost CPU, take it from the gateway and save no time (measured:
        # learning 735 rows took 6.7 CPU-s with two threads, 3.2 with one).
        os.environ.setdefault(name, "1")
    try:
        result = root.main(args=arguments, prog_name="pilotfish", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as shown:
        click.echo(shown.format_message())
        return EXIT_USER
    except click.ClickException as error:
        error.show()
        return EXIT_USER
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nStopped.", err=True)
        return 130
    except (PilotfishError, OSError) as error:
        if os.environ.get("PILOTFISH_DEBUG"):
            traceback.print_exc()
        click.echo(f"pilotfish: {error}", err=True)
        return _exit_code(error)
    return result if isinstance(result, int) else EXIT_DONE


def _exit_code(error: PilotfishError | OSError) -> int:
    # An OSError is what the system refused: a folder without permission, a full disk.
    if isinstance(error, UserError | SpecialistError | StoreError | OSError):
        return EXIT_USER
    return EXIT_MODEL if isinstance(error, ModelError) else EXIT_FAULT


def _terminate(number: int, _frame: FrameType | None) -> None:
    """Clean up as after Ctrl-C: by default SIGTERM ends a process on the spot, temporary folders and all."""
    sys.exit(128 + number)


def _fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody expected is our fault: the traceback, a sentence, and the exit code that says so."""
    sys.__excepthook__(kind, error, trace)
    click.echo(
        f"pilotfish: this is a fault of Pilotfish {__version__}, not yours. Please report the lines above.", err=True
    )
    sys.stdout.flush()
    os._exit(EXIT_FAULT)
