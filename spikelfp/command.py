"""What the commands share: exit codes, one-line errors, and options that stand in configurations."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO, get_type_hints

import typer
from typer.core import TyperCommand

from spikelfp import end_import, plugins
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
from spikelfp.options import Condition, Option, flag
from spikelfp.registry import Registry, nearest
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

    forgive_encoding()
    before = warnings.showwarning
    warnings.showwarning = _one_line(prog, before)
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        _answer_at_once(app, prog, words)
        for each in optioned:
            each.schema()  # imports what is to run, for seconds
        if signal.getsignal(signal.SIGINT) is end_import:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        plugins.load_all(words)
        for each in optioned:
            each.declare()
        command = _command(app)
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


class _Runs(Exception):
    """A command line is one that runs something."""


def _answer_at_once(app: typer.Typer, prog: str, words: list[str]) -> None:
    """Answer ``--help``, ``--version`` and mistakes from the options that are recorded, as long as they are all.

    They are not where plug-ins are named or installed, where the record is out of date, and in a process in which
    something may have been registered already.
    """
    if Registry.known or plugins.any_named(words) or not all(each.declare_recorded() for each in optioned):
        return
    command = _command(app)
    for leaf in _all_commands(command):
        if not getattr(leaf, "commands", None):
            leaf.callback = functools.partial(_refuse_or_run, getattr(leaf.callback, "read_options", None))
    with suppress(_Runs), command.make_context(prog, words) as context:
        command.invoke(context)


def _refuse_or_run(read_options: Callable[[Mapping[str, Any]], object] | None, **values: Any) -> NoReturn:
    """Stand in for a command: refuse values that its options do not take, else say that it runs."""
    if read_options is not None:
        read_options(values)
    raise _Runs


def _command(app: typer.Typer) -> Any:
    """The command line of click, to be called by :func:`run_app`: its own ``main`` would handle Ctrl-C itself."""
    command = typer.main.get_command(app)
    _take_plugins(command)
    return command


def _all_commands(command: Any) -> Iterator[Any]:
    """A command and those in it."""
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from _all_commands(each)


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
    for each in _all_commands(command):
        each.params.append(option)


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


# --- options of a configuration ------------------------------------------------------------------------------------


class OptionedCommand:
    """A command that takes the options of a configuration beside its own parameters.

    Which options there are is known in two ways. The configuration tells, which imports torch and every rule, model
    and data set; or the record of it that lies in the package, ``options.json``, as long as the files that it was made
    from have not changed. The record serves to answer ``--help`` and mistakes at once; what runs is never read by it.

    Attributes:
        called: the function that typer makes the command of.
        options: by their names, as they were declared last, each with the section of the help text.
    """

    def __init__(self, command: Callable[..., Any], configuration: Callable[[], Schema[Any]]) -> None:
        hints = get_type_hints(command, include_extras=True)
        self._command, self._configuration = command, configuration
        self._own = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name])
            for p in inspect.signature(command).parameters.values()
            if p.name != "options"
        ]
        self.options: dict[str, tuple[Option, str]] = {}
        self.called = self._function()
        self._declare([])

    @property
    def name(self) -> str:
        """Name in the record."""
        return self._command.__name__

    @property
    def package(self) -> Path:
        """Folder of the command's module, which holds the record."""
        return Path(inspect.getfile(self._command)).resolve().parent

    def schema(self) -> Schema[Any]:
        """The configuration, loaded; no option brought along may have a name of the command's own parameters."""
        schema = self._configuration()
        schema.taken |= {"help", "plugin", "version", *(name for p in self._own for name in _own_names(p))}
        return schema

    def declare(self) -> None:
        """Take the options that the configuration has now, those of plug-ins among them."""
        self._declare(self.schema().options())

    def declare_recorded(self) -> bool:
        """Take the options that are recorded; ``False`` if there is no record, or its files have changed since."""
        record = _record(self.package)
        if self.name not in record:
            return False
        self._declare([_option_of(row) for row in record[self.name]])
        return True

    def _declare(self, options: list[tuple[Option, str]]) -> None:
        self.options = {option.name: (option, section) for option, section in options}
        all_parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_flag(option, section))
            for name, (option, section) in self.options.items()
        ] + self._own
        self.called.__signature__ = inspect.Signature(all_parameters)
        self.called.__annotations__ = {p.name: p.annotation for p in all_parameters}

    def _given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options that the user gave, by name.

        Raises:
            UserError: for the first with a value that it does not take.
        """
        given = {name: values[name] for name in self.options if values[name] is not None}
        for name, value in given.items():
            option = self.options[name][0]
            if option.check is None:
                option.read(value)
        return given

    def _function(self) -> Any:
        """The function that typer makes the command of, whose signature follows the options."""

        def called(**values: Any) -> Any:
            own = {name: value for name, value in values.items() if name not in self.options}
            return self._command(**own, options=self._given(values))

        called.__name__, called.__doc__ = self._command.__name__, self._command.__doc__
        called.read_options = self._given  # type: ignore[attr-defined]
        return called


optioned: list[OptionedCommand] = []
"""The commands of this process that take the options of a configuration."""


def options_from(configuration: Callable[[], Schema[Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: add every option of a configuration to a typer command.

    The command takes a keyword ``options``, a dict of the values the user gave, by their names. Help texts, defaults,
    valid names, sections and owners are those of the options, as they are when the command line runs.

    Args:
        configuration: imports the configuration and returns it; called when a command is to be run.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        optioned.append(OptionedCommand(command, configuration))
        return optioned[-1].called

    return decorate


RECORD = "options.json"
"""File of a package with the options of its commands, and digests of the files they stand in."""


def _record(package: Path) -> dict[str, Any]:
    """The options that are recorded in a package, by command; none if a file that they stand in has changed since."""
    try:
        record = json.loads((package / RECORD).read_bytes())
        if all(_holds(package.parent / name, *digests) for name, digests in record["files"].items()):
            return record["commands"]
    except (OSError, ValueError):
        pass
    return {}


def _holds(path: Path, whole: str, outline: str | None = None) -> bool:
    """Whether a file has not changed; where only its outline is recorded to matter, outside of its functions."""
    text = path.read_text(encoding="utf-8")
    return digest(text) == whole or (outline is not None and digest(outline_of(text)) == outline)


def digest(text: str) -> str:
    """Make a short digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def outline_of(source: str) -> str:
    """Write a module without comments and without what its functions do; their docstrings stay."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Expr(ast.Constant(ast.get_docstring(node)))]
    return ast.unparse(tree)


def option_row(option: Option, section: str) -> dict[str, Any]:
    """What a command line needs to know about an option, as plain data."""
    row = {
        "name": option.name,
        "kind": option.kind,
        "section": section,
        "help": option.help,
        "default": option.shown_default,
        "names": None if option.names is None else list(option.names),
        "within": option.within,
        "optional": option.optional,
        "owner": None if option.owner is None else option.owner.name,
        "checked": option.check is not None,
    }
    return {key: value for key, value in row.items() if value is not None and value is not False and value != ""}


def _option_of(row: Mapping[str, Any]) -> tuple[Option, str]:
    """The option of a row, and its section; what it belongs to is known in words only."""
    owner, names = row.get("owner"), row.get("names")
    option = Option(
        row["name"],
        row["kind"],
        row.get("default", ""),
        help=row.get("help", ""),
        optional=row.get("optional", False),
        names=names,
        within=row.get("within"),
        owner=None if owner is None else Condition(owner, lambda view: True, ()),
        check=(lambda value: None) if row.get("checked") else None,
    )
    return option, row["section"]


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
