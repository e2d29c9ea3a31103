"""What the commands share: exit codes, one-line errors, and options made from a dataclass."""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, Any, NoReturn, TextIO, get_type_hints

import typer
from typer.core import TyperCommand

from spikelfp import plugins, signals
from spikelfp.configuration import Schema
from spikelfp.errors import (
    DataWarning,
    LearningWarning,
    MachineError,
    NonFiniteError,
    PluginWarning,
    UserError,
    failure,
)
from spikelfp.options import Option, flag
from spikelfp.registry import nearest
from spikelfp.terminal import forgive_encoding, one_line, say

OK, FAILED, USER_MISTAKE = 0, 1, 2
SIGNALLED = 128
"""Exit status of a command that a signal has stopped, less the number of the signal: 130 after Ctrl-C, 143 after
SIGTERM, as a shell counts."""
INTERRUPTED = SIGNALLED + signal.SIGINT


def new_app(about: str, prog: str | None = None) -> typer.Typer:
    """An empty command line; its errors are left to :func:`run_app`.

    Args:
        about: help text.
        prog: name of the program, for its ``--version``; ``None`` for a part of another one.
    """
    app = typer.Typer(
        help=about, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    if prog is not None:

        def show(wanted: bool) -> None:
            if wanted:
                say(f"{prog} {version('spikelfp')}")
                raise typer.Exit

        def options(shown: bool = False) -> None: ...

        help_text = "print the version and exit"
        options.__doc__ = about
        options.__annotations__["shown"] = Annotated[
            bool, typer.Option("--version", help=help_text, callback=show, is_eager=True)
        ]
        app.callback()(options)
    return app


class GroupedCommand(TyperCommand):
    """A command whose help shows its options in the sections that they name (``rich_help_panel``)."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or "run", []).append(record)
        for name in sections:
            with formatter.section(f"Options: {name}"):
                formatter.write_dl(sections[name])


def run_app(app: typer.Typer, prog: str, arguments: list[str] | None = None, quiet: bool = False) -> None:
    """Run a command line and exit.

    The exit status is 0, 1 for a failed check or what the machine did not give, 2 for a user's mistake, and 128 and
    its number for a signal. All but the first come with one line on stderr.

    Args:
        app: the command line.
        prog: name of the program, at the beginning of that line.
        arguments: words of the command line; ``None`` for those of the process.
        quiet: leave the line to another process, which was given the same.
    """

    def fail(text: str, code: int = USER_MISTAKE) -> NoReturn:
        if not quiet:
            with suppress(OSError, ValueError):  # nobody listens any more
                say(f"{prog}: {one_line(text)}", error=True)
        sys.exit(code)

    signals.done()
    forgive_encoding()
    before = warnings.showwarning
    warnings.showwarning = _one_line(prog, before)
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        plugins.load_all(words)
        for state in _STATED:
            state()
        command = typer.main.get_command(app)  # not its main(), which would handle Ctrl-C itself
        _take_plugins(command)
        with command.make_context(prog, words) as context:
            code = command.invoke(context)
        sys.stdout.flush()
    except UserError as error:
        fail(str(error))
    except (NonFiniteError, MachineError) as error:
        fail(str(error), FAILED)
    except BrokenPipeError:  # the reader of our output has left
        _silence(sys.stdout)
        sys.exit(OK)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a command without its subcommand: help, laid out as it is
            say(*error.format_message().split("\n"), error=True)  # type: ignore[attr-defined]
            sys.exit(USER_MISTAKE)
        if type(error).__name__ == "Exit":  # after --help and --version
            sys.exit(error.exit_code)  # type: ignore[attr-defined]
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's usage errors
            fail(_with_suggestion(error))
        if type(error).__name__ == "Abort":  # click's word for Ctrl-C
            fail("interrupted", SIGNALLED + getattr(error.__context__, "number", signal.SIGINT))
        failed = failure(error)
        if failed is not None:
            fail(failed, FAILED)
        told = plugins.blamed(error)
        if told is not None:
            fail(told)
        raise
    except KeyboardInterrupt as ended:
        fail("interrupted", SIGNALLED + getattr(ended, "number", signal.SIGINT))
    finally:
        warnings.showwarning = before
    sys.exit(code if isinstance(code, int) else OK)


_Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE",
        help="module or .py file of your own that registers models, rules, chips, …; can be given more than once",
        expose_value=False,
        rich_help_panel="run",
        show_default="none",
    ),
]


def _take_plugins(command: Any) -> None:
    """Let a command, and those in it, take ``--plugin``, which :func:`run_app` has read already."""
    donor = typer.Typer(add_completion=False)

    @donor.command()
    def take(plugin: _Plugins = None) -> None: ...

    (option,) = (each for each in typer.main.get_command(donor).params if each.name == "plugin")
    commands = [command]
    while commands:
        each = commands.pop()
        each.params.append(option)
        commands += getattr(each, "commands", {}).values()


class Voice:
    """Lines on stderr about what goes on, until nobody listens any more: training does not end for that.

    Args:
        silent: say nothing.
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent

    def __call__(self, line: str) -> None:
        """Say a line."""
        if self._silent:
            return
        try:
            say(line, error=True)
        except (OSError, ValueError):  # the pipe or the terminal is gone
            self._silent = True
            _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Let what is still written to a stream that nobody reads go nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _one_line(prog: str, before: Callable[..., Any]) -> Callable[..., Any]:
    """Show warnings about data and learning as the commands show errors, and all others as ``before``."""

    def show(message: Any, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, DataWarning | LearningWarning | PluginWarning):
            with suppress(OSError, ValueError):
                say(f"{prog}: warning: {one_line(message)}", error=True)
        else:
            before(message, category, *rest, **named)

    return show


def print_json(value: Mapping[str, Any]) -> None:
    """``value`` as one line of JSON on stdout, in ASCII that can be seen."""
    print(json.dumps(value, default=str).replace("\x7f", "\\u007f"), flush=True)  # noqa: T201


def options_from(schema: Schema[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: add every option of a configuration to a typer command.

    The command takes a keyword ``options``, a dict of the values the user gave, by their names. Help texts, defaults,
    valid names, sections and owners are those of the options, as they are when the command line runs: those of plug-ins
    are among them.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name])
            for p in inspect.signature(command).parameters.values()
            if p.name != "options"
        ]

        schema.taken |= {"help", "plugin", "version", *(name for p in own for name in _own_names(p))}

        def wrapper(**values: Any) -> Any:
            given = {name: values.pop(name) for name in schema.named()}
            return command(**values, options={name: v for name, v in given.items() if v is not None})

        def state() -> None:
            extra = [
                inspect.Parameter(
                    each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_flag(each, group)
                )
                for each, group in schema.options()
            ]
            wrapper.__signature__ = inspect.Signature([*extra, *own])  # type: ignore[attr-defined]
            wrapper.__annotations__ = {p.name: p.annotation for p in [*own, *extra]}

        wrapper.__doc__ = command.__doc__
        wrapper.__name__ = command.__name__
        state()
        _STATED.append(state)
        return wrapper

    return decorate


def _own_names(parameter: inspect.Parameter) -> list[str]:
    """Names that an option may not have beside a parameter of a command: its own, and those of its flags."""
    declared = [
        word.removeprefix("--").replace("-", "_")
        for about in getattr(parameter.annotation, "__metadata__", ())
        # within Annotated, typer takes the first name for a default at first
        for flags in (getattr(about, "default", None), *(getattr(about, "param_decls", None) or ()))
        if isinstance(flags, str) and flags.startswith("-")
        for word in flags.split("/")
    ]
    return [parameter.name, *declared]


_STATED: list[Callable[[], None]] = []
"""For each command with the options of a configuration, what gives it those that there are now."""


def _flag(option: Option, group: str) -> Any:
    """The typer annotation of an option: it may be missing, so that what the user did not say can be told apart."""
    text = ": ".join(filter(None, (option.help, ", ".join(option.names or ()))))
    if option.owner is not None:
        text = "; ".join(filter(None, (text, f"belongs to {option.owner.name}")))
    about: Any = {"help": text, "show_default": option.shown_default, "rich_help_panel": group}
    name = flag(option.name)
    if option.kind == "bool":
        return Annotated[bool | None, typer.Option(f"{name}/--no-{name[2:]}", **about)]
    # Text for every kind: the configuration reads the values, whichever way they come, and names a bad one.
    kinds = {"tuple[int, ...]": "INT,INT,…", "str": "TEXT" if option.names is None else "NAME"}
    metavar = kinds.get(option.kind, option.kind.upper())
    return Annotated[str | None, typer.Option(name, metavar=metavar, **about)]


def _with_suggestion(error: Any) -> str:
    """A usage error as one line, with the nearest valid command or option named."""
    text = " ".join(str(error.format_message()).split())
    context = getattr(error, "ctx", None)
    if text.startswith("No such option") and context is not None:
        wrong = error.option_name
        options = [flag for p in context.command.params for flag in (*p.opts, *p.secondary_opts) if flag[:2] == "--"]
        near = nearest(wrong, options)
        return f"there is no option {wrong}: " + (f"did you mean {near}?" if near else "--help lists them all")
    if text.startswith("No such command") and "Did you mean" not in text and context is not None:
        commands = list(getattr(context.command, "commands", {}))
        near = nearest(text.split("'")[1], commands)
        text = f"{text.rstrip('.')}" + (f": did you mean {near!r}?" if near else f": choose from {', '.join(commands)}")
    return text
