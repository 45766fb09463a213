"""The group of all verbs: loads the one that is called, and ends every error in one line."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn, TypeGuard

import click

from holdfast.cli.exits import MEANINGS, Exit, Failure, failure_of, output_failure
from holdfast.cli.text import visible

VERBS = {
    "new": ("new:new", "Write the package of a machine, to begin with."),
    "send": ("send:send", "Apply a command to an entity."),
    "run": ("run:run", "Apply a stream of commands from a file."),
    "list": ("records:list_entities", "List the entities of a machine."),
    "show": ("records:show", "Show an entity."),
    "history": ("records:history", "Show the transitions of an entity."),
    "graph": ("machines:graph", "Draw a machine as a Mermaid diagram."),
    "check": ("machines:check", "Look for what a machine leaves out."),
    "simulate": (
        "simulate:simulate_runs",
        "Look for promises that break under faults.",
    ),
    "migrate": ("migrate:migrate", "Bring the tables of a store up to date."),
    "verify": ("verification:verify", "Look for what was changed behind a store's back."),
    "demo": ("demo:demo", "Watch a day of orders, with an outage and a recovery."),
}
"""Each verb: the module of this package and the function in it, and what `--help` says of it."""


class App(click.Group):
    """A group whose verbs are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the verbs, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        if cmd_name not in VERBS:
            return None
        module, _, function = VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"holdfast.cli.{module}"), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), text) for code, text in MEANINGS.items()])

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options; the help and the version are written here."""
        with _errors_told(in_full="--traceback" in sys.argv[1:2]):
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the verb; an error becomes one line on the standard error and an exit code."""
        with _errors_told(in_full=ctx.params["traceback"]):
            return super().invoke(ctx)


@contextmanager
def _errors_told(*, in_full: bool) -> Generator[None]:
    """Write what is left of the output, and end with an exit code where something failed."""
    try:
        yield
        _flush()
    except (click.ClickException, click.exceptions.Exit):
        raise
    except KeyboardInterrupt as error:
        _end(Failure("interrupted", Exit.INTERRUPTED), error, in_full=in_full)
    except BaseException as error:  # noqa: BLE001 (told to the user, with an exit code)
        failure = output_failure(error) if _is_of_echo(error) else failure_of(error)
        _end(failure, error, in_full=in_full)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        raise output_failure(error) from error


def _is_of_echo(error: BaseException) -> TypeGuard[OSError]:
    """Return whether click could not write, as it does for the help of a verb."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return isinstance(error, OSError) and frame.f_code is click.echo.__code__


def _end(failure: Failure, error: BaseException, *, in_full: bool) -> NoReturn:
    if failure.code != Exit.PIPE_CLOSED:  # whoever closed it knows
        with suppress(OSError):  # then the exit code alone tells it
            if in_full:
                traceback.print_exception(error)
            click.echo(f"Error: {visible(failure.message)}", err=True)
    raise click.exceptions.Exit(failure.code) from error


@click.command("holdfast", cls=App, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
@click.version_option(package_name="holdfast", message="%(prog)s %(version)s")
def app(**options: object) -> None:
    """Durable, typed state machines: apply commands, look at entities, verify the store.

    TARGET names a Service or an AsyncService, or a function without parameters that returns one,
    as module:attribute. Modules are looked for in the current folder first.

    Tables are for terminals: in a pipe the output is JSON, one object a line. --json and --table
    choose by hand. Every verb has a --help of its own.
    """
