"""What the commands share: exit codes, one-line errors, and options made from a dataclass."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from importlib.metadata import version
from typing import Annotated, Any, NoReturn, get_type_hints

import typer
from typer.core import TyperCommand

from spikelfp.errors import NonFiniteError, UserError
from spikelfp.suggest import nearest
from spikelfp.terminal import forgive_encoding, one_line, say

OK, FAILED, USER_MISTAKE, INTERRUPTED = 0, 1, 2, 130


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
    """Run a command line and exit: 0, 1 for a failed check, 2 with one line on stderr for a user's mistake.

    quiet: leave that line to another process, which was given the same.
    """

    def fail(text: str, code: int = USER_MISTAKE) -> NoReturn:
        if not quiet:
            say(f"{prog}: {one_line(text)}", error=True)
        sys.exit(code)

    forgive_encoding()
    try:
        code = typer.main.get_command(app).main(args=arguments, prog_name=prog, standalone_mode=False)
    except UserError as error:
        fail(str(error))
    except NonFiniteError as error:
        fail(str(error), FAILED)
    except BrokenPipeError:  # the reader of our output has left
        sys.stderr.close()
        sys.exit(OK)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a command without its subcommand: help, laid out as it is
            say(*error.format_message().split("\n"), error=True)  # type: ignore[attr-defined]
            sys.exit(USER_MISTAKE)
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's usage errors
            fail(_with_suggestion(error))
        if type(error).__name__ == "Abort":
            fail("interrupted", INTERRUPTED)
        raise
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else OK)


def print_json(value: Mapping[str, Any]) -> None:
    """``value`` as one line of JSON on stdout, in ASCII that can be seen."""
    print(json.dumps(value, default=str).replace("\x7f", "\\u007f"), flush=True)  # noqa: T201


def options_from(config: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: add an option for every field of the dataclass ``config`` to a typer command.

    The command takes a keyword ``options``, a dict of the fields the user gave. Help texts, defaults, valid names,
    sections and owners are those of the fields.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name])
            for p in inspect.signature(command).parameters.values()
            if p.name != "options"
        ]
        extra = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(f))
            for f in fields(config)
        ]

        def wrapper(**values: Any) -> Any:
            given = {f.name: values.pop(f.name) for f in fields(config)}
            return command(**values, options={name: v for name, v in given.items() if v is not None})

        wrapper.__doc__ = command.__doc__
        wrapper.__name__ = command.__name__
        wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*extra, *own]
        )
        wrapper.__annotations__ = {p.name: p.annotation for p in [*own, *extra]}
        return wrapper

    return decorate


def _annotation(f: Field[Any]) -> Any:
    """The typer annotation of a field: optional, so that what the user did not say can be told apart."""
    kind = str(f.type).split(" | ")[0]
    names = f.metadata["names"]
    text = f.metadata["help"] + (f": {', '.join(names)}" if names is not None else "")
    default = f.metadata["automatic"] or (
        ",".join(map(str, f.default))
        if isinstance(f.default, tuple)
        else str(f.default).lower()
        if kind == "bool"
        else str(f.default)
    )
    flag, group = "--" + f.name.replace("_", "-"), f.metadata["group"]
    owner = f.metadata["owner"]
    if owner is not None:
        text += f"; belongs to {owner.name}"
    if kind == "bool":
        return Annotated[
            bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=text, show_default=default, rich_help_panel=group)
        ]
    # Text for every kind: the configuration reads the values, whichever way they come, and names a bad one.
    metavar = {"tuple[int, ...]": "INT,INT,…"}.get(kind, kind.upper().replace("STR", "NAME" if names else "TEXT"))
    return Annotated[
        str | None, typer.Option(flag, help=text, show_default=default, metavar=metavar, rich_help_panel=group)
    ]


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
