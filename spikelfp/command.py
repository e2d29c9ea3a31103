"""Parts that the two commands share: exit codes, errors of one line, paths, and options of configurations."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    UnknownNameError,
    UserError,
    failure,
)
from spikelfp.options import Condition, Option, check_named, flag, written
from spikelfp.registry import Registry, nearest, unknown_name
from spikelfp.terminal import forgive_encoding, one_line, say

OK, FAILED, USER_MISTAKE = 0, 1, 2
SIGNALLED = 128
"""Added to the number of a signal, the exit status of a command that it stopped: 130 for Ctrl-C, 143 for SIGTERM."""
INTERRUPTED = SIGNALLED + signal.SIGINT


def new_app(about: str, prog: str | None = None) -> typer.Typer:
    """Make an empty command line, to be run by :func:`run_app`.

    Args:
        about: help text.
        prog: name of the program, for its ``--version``; ``None`` for a group of commands within another one.
    """
    app = typer.Typer(
        help=about,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
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

    The exit status is 0 for success, 1 for a failed check or a failure of the machine, 2 for a user's mistake, and 128
    plus its number for a signal. Every status but 0 comes with one line on stderr.

    Args:
        app: the command line.
        prog: name of the program, with which that line begins.
        arguments: of the command line; ``None`` for those of the process.
        quiet: leave that line to another worker, which has the same arguments.
    """

    def fail(text: str, code: int = USER_MISTAKE) -> NoReturn:
        if not quiet:
            with suppress(OSError, ValueError):  # stderr is closed
                say(f"{prog}: {one_line(text)}", error=True)
        sys.exit(code)

    forgive_encoding()
    given = sys.argv[1:] if arguments is None else list(arguments)
    before = warnings.showwarning
    warnings.showwarning = _one_line(prog, before)
    try:
        code = _run(app, prog, given, fail)
    except KeyboardInterrupt as ended:  # of the command, or while its mistake or failure is told
        fail("interrupted", SIGNALLED + getattr(ended, "number", signal.SIGINT))
    finally:
        warnings.showwarning = before
    sys.exit(code)


def _run(app: typer.Typer, prog: str, given: list[str], fail: Callable[..., NoReturn]) -> int:
    """Run a command line; its mistakes and failures go to ``fail``, which exits. Return its exit status."""
    try:
        _answer_at_once(app, prog, given)
        for each in optioned:
            each.schema()  # imports torch and all that registers options, for seconds
        if signal.getsignal(signal.SIGINT) is end_import:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        plugins.load_all(given)
        for each in optioned:
            each.declare()
        command = _command(app)
        with command.make_context(prog, given) as context:
            code = command.invoke(context)
        sys.stdout.flush()
    except UserError as error:
        fail(_with_flags(str(error), given))
    except (NonFiniteError, MachineError) as error:
        fail(str(error), FAILED)
    except BrokenPipeError:  # the reader of stdout has closed it
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
        blamed = plugins.blamed(error)
        if blamed is not None:
            fail(blamed)
        raise
    return code if isinstance(code, int) else OK


class _Runs(Exception):
    """Raised for a command line that is right and asks for more than help."""


def _answer_at_once(app: typer.Typer, prog: str, arguments: list[str]) -> None:
    """Answer ``--help``, ``--version`` and mistakes from the recorded options, where the record is complete.

    It may not be where plug-ins are named or installed, where a file has changed since, and in a process in which
    something is registered already.
    """
    if Registry.known or plugins.any_named(arguments) or not all(each.declare_recorded() for each in optioned):
        return
    command = _command(app)
    for leaf in _all_commands(command):
        if not getattr(leaf, "commands", None):
            leaf.callback = functools.partial(_refuse_or_run, getattr(leaf.callback, "read_options", None))
    with suppress(_Runs), command.make_context(prog, arguments) as context:
        command.invoke(context)


def _refuse_or_run(read_options: Callable[[Mapping[str, Any]], object] | None, **values: Any) -> NoReturn:
    """Stand in for a command: refuse values that its options do not take, and raise :class:`_Runs` if all are taken."""
    if read_options is not None:
        read_options(values)
    raise _Runs


def _command(app: typer.Typer) -> Any:
    """Make the click command of an app; :func:`run_app` invokes it, as its own ``main`` would handle Ctrl-C."""
    command = typer.main.get_command(app)
    _take_plugins(command)
    return command


def _all_commands(command: Any) -> Iterator[Any]:
    """Yield a command and, for a group, all commands in it."""
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
    """Add ``--plugin`` to a command and all commands in it; :func:`run_app` has read its value already."""
    donor = typer.Typer(add_completion=False)

    @donor.command()
    def take(plugin: _Plugins = None) -> None: ...

    (option,) = (each for each in typer.main.get_command(donor).params if each.name == "plugin")
    for each in _all_commands(command):
        each.params.append(option)


class Voice:
    """Lines on stderr about the progress of a command, which goes on silently when stderr is closed.

    Args:
        silent: print nothing.
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent

    def __call__(self, line: str) -> None:
        """Print a line."""
        if self._silent:
            return
        try:
            say(line, error=True)
        except (OSError, ValueError):  # the pipe or the terminal is gone
            self._silent = True
            _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Discard what is still written to a stream that nobody reads."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _one_line(prog: str, before: Callable[..., Any]) -> Callable[..., Any]:
    """Make a handler that shows our own warnings in one line, as errors are shown, and all others as ``before``."""

    def show(message: Any, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, DataWarning | LearningWarning | PluginWarning):
            with suppress(OSError, ValueError):
                say(f"{prog}: warning: {one_line(message)}", error=True)
        else:
            before(message, category, *rest, **named)

    return show


def path_given(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Read a path of the command line and expand ``~``, which shells leave as it is after ``--out=``.

    Args:
        parameter: of typer, whose callback this is.
        value: what was given, or ``None``.

    Raises:
        UserError: for an empty path.
    """
    name = parameter.opts[0]
    check_named(name if name.startswith("-") else (parameter.metavar or name).upper(), value)
    return value and os.path.expanduser(value)


def print_json(value: Mapping[str, Any]) -> None:
    """Print a mapping as one line of JSON on stdout, in printable ASCII."""
    print(json.dumps(value, default=str).replace("\x7f", "\\u007f"), flush=True)  # noqa: T201


# --- options of a configuration ------------------------------------------------------------------------------------


class OptionedCommand:
    """A command that takes the options of a configuration beside its own parameters.

    There are two sources of its options. The configuration itself imports torch and every rule, model and data set.
    The record of it in the package, ``options.json``, is used while the files that it was made from are unchanged: it
    answers ``--help`` and mistakes at once. A command that runs always reads its options from the configuration.

    Args:
        command: function with a parameter ``options`` and parameters of its own.
        configuration: imports the configuration and returns it.

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
        """Name of the command in the record."""
        return self._command.__name__

    @property
    def package(self) -> Path:
        """Folder of the command's module, which holds the record."""
        return Path(inspect.getfile(self._command)).resolve().parent

    def schema(self) -> Schema[Any]:
        """Load the configuration, and reserve the names of the command's own parameters in it."""
        schema = self._configuration()
        schema.taken |= {"help", "plugin", "version", *(name for p in self._own for name in _own_names(p))}
        return schema

    def declare(self) -> None:
        """Take the options of the configuration, with those that plug-ins have added by now."""
        self._declare(self.schema().options())

    def declare_recorded(self) -> bool:
        """Take the recorded options.

        Returns:
            Whether there is a record whose files are unchanged.
        """
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
        """Select the options that the user gave, by name.

        Raises:
            UserError: for the first that does not take its value.
        """
        given = {name: values[name] for name in self.options if values[name] is not None}
        for name, value in given.items():
            option = self.options[name][0]
            if option.check is not None:
                continue
            try:
                option.read(value)
            except UnknownNameError:
                others = [each for each, _ in self.options.values() if each.names is not None and value in each.names]
                if not others:
                    raise
                meant = " or ".join(written(each.name, value) for each in others)
                raise unknown_name(name.replace("_", "-"), value, option.names or (), meant) from None
            except UserError as error:
                text = str(error)
                raise type(error)(f"--{text}" if text.startswith(flag(name)[2:]) else text) from None
        return given

    def _function(self) -> Any:
        """Make the function that typer makes the command of; :meth:`_declare` sets its signature."""

        def called(**values: Any) -> Any:
            own = {name: value for name, value in values.items() if name not in self.options}
            return self._command(**own, options=self._given(values))

        called.__name__, called.__doc__ = self._command.__name__, self._command.__doc__
        called.read_options = self._given  # type: ignore[attr-defined]
        return called


optioned: list[OptionedCommand] = []
"""The commands of this process that take the options of a configuration."""


def options_from(configuration: Callable[[], Schema[Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a typer command to take every option of a configuration.

    The command gets a keyword ``options``: the values that the user gave, by name. Help texts, defaults, valid names,
    sections and owners are those of the options when the command line runs.

    Args:
        configuration: imports the configuration and returns it; called when a command is to run.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        optioned.append(OptionedCommand(command, configuration))
        return optioned[-1].called

    return decorate


RECORD = "options.json"
"""File of a package with the options of its commands and digests of the files that define them."""


def _record(package: Path) -> dict[str, Any]:
    """Read the options that are recorded in a package, by command; none if a file that defines them has changed."""
    try:
        record = json.loads((package / RECORD).read_bytes())
        if all(_holds(package.parent / name, *digests) for name, digests in record["files"].items()):
            return record["commands"]
    except (OSError, ValueError):
        pass
    return {}


def _holds(path: Path, whole: str, outline: str | None = None) -> bool:
    """Whether a file is unchanged, or its outline is, where the record has a digest of that."""
    text = path.read_text(encoding="utf-8")
    return digest(text) == whole or (outline is not None and digest(outline_of(text)) == outline)


def digest(text: str) -> str:
    """Make a short digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def outline_of(source: str) -> str:
    """Write a module without comments and without the bodies of its functions; their docstrings stay."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Expr(ast.Constant(ast.get_docstring(node)))]
    return ast.unparse(tree)


def option_row(option: Option, section: str) -> dict[str, Any]:
    """Write as plain data the facts about an option that a command line needs.

    Args:
        option: to be recorded.
        section: of the help text.
    """
    row = {
        "name": option.name,
        "kind": option.kind,
        "section": section,
        "help": option.help,
        "default": None if option.automatic else option.shown_default,
        "automatic": option.automatic,
        "names": None if option.names is None else list(option.names),
        "within": option.within,
        "optional": option.optional,
        "owner": None if option.owner is None else option.owner.name,
        "checked": option.check is not None,
    }
    return {key: value for key, value in row.items() if value is not None and value is not False and value != ""}


def _option_of(row: Mapping[str, Any]) -> tuple[Option, str]:
    """Read an option and its section from a row; only the name of its owner is recorded, not its condition."""
    owner, names = row.get("owner"), row.get("names")
    option = Option(
        row["name"],
        row["kind"],
        row.get("default", ""),
        automatic=row.get("automatic", ""),
        help=row.get("help", ""),
        optional=row.get("optional", False),
        names=names,
        within=row.get("within"),
        owner=None if owner is None else Condition(owner, lambda view: True, ()),
        check=(lambda value: None) if row.get("checked") else None,
    )
    return option, row["section"]


def _own_names(parameter: inspect.Parameter) -> list[str]:
    """List the names that a parameter of a command takes from options: its own, and those of its flags."""
    declared = [
        name.removeprefix("--").replace("-", "_")
        for about in getattr(parameter.annotation, "__metadata__", ())
        # within Annotated, typer keeps the first flag as the default
        for flags in (getattr(about, "default", None), *(getattr(about, "param_decls", None) or ()))
        if isinstance(flags, str) and flags.startswith("-")
        for name in flags.split("/")
    ]
    return [parameter.name, *declared]


def _flag(option: Option, group: str) -> Any:
    """Make the typer annotation of an option; ``None`` stands for an option that the user did not give."""
    text = ": ".join(filter(None, (option.help, ", ".join(option.names or ()))))
    if option.owner is not None:
        text = "; ".join(filter(None, (text, f"belongs to {option.owner.name}")))
    if not option.automatic:  # click puts words in brackets, and a value is better bare
        text = f"{text}  [default: {option.shown_default}]"
    about: Any = {"help": text, "show_default": option.automatic or False, "rich_help_panel": group}
    name = flag(option.name)
    if option.kind == "bool":
        return Annotated[bool | None, typer.Option(f"{name}/--no-{name[2:]}", **about)]
    # Text for every kind: the configuration reads the values, as it does those of files, and its errors name them.
    kinds = {"tuple[int, ...]": "INT,INT,…", "str": "TEXT" if option.names is None else "NAME"}
    metavar = kinds.get(option.kind, option.kind.upper())
    return Annotated[str | None, typer.Option(name, metavar=metavar, **about)]


def _with_flags(text: str, arguments: Iterable[str]) -> str:
    """Write the options in an error as on the command line: ``--batch-size 8`` for ``batch_size=8``.

    Calls in Python, such as ``nn.LIF(beta=0.9)``, stay. So do names that occur in an argument: they may be the user's.
    """
    names = {name for each in optioned for name in each.options if not any(name in given for given in arguments)}

    def as_flag(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        if name not in names:
            return found[0]
        return written(name, {"True": True, "False": False}.get(value, value.strip("'")))

    pattern = r"[\w\]]\([^()]*\)|(?<![\w./\\-])(?P<name>[a-z]\w*)=(?P<value>'[^']*'|[^\s,;:()]+)"
    return re.sub(pattern, as_flag, text)


def _with_suggestion(error: Any) -> str:
    """Write a usage error as one line that suggests the nearest command or option."""
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
