"""Pages of the site that are made when it is built: API, command lines, results, sources; and a check of its links.

mkdocs calls the functions ``on_…``; :class:`Docstrings` brings docstrings into Markdown. ``python docs/hooks.py``
writes the files and lines of the table in ``docs/method.md`` anew; with ``--check`` it says whether they are wrong.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import pkgutil
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

try:  # only needed to build the site
    import griffe
    from mkdocs.exceptions import PluginError
    from mkdocs.structure.files import File, Files

    Extension = griffe.Extension
except ImportError:
    Extension = object  # type: ignore[assignment, misc]

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
METHOD = DOCS / "method.md"

PACKAGES = (
    "spikelfp", "spikelfp.nn", "spikelfp.nn.graph", "spikelfp.rules", "spikelfp.rewards", "spikelfp.methods",
    "spikelfp.tasks", "spikelfp.training", "spikelfp.training.run", "spikelfp.models", "spikelfp.data",
    "spikelfp.data.events", "spikelfp.analysis", "spikelfp.explain", "spikelfp.fold", "spikelfp.pruning",
    "spikelfp.plot", "spikelfp.reproduce", "spikelfp.interop", "spikelfp.quantized", "spikelfp.report",
    "spikelfp.options", "spikelfp.plugins", "spikelfp.errors", "spikelfp.kernels", "spikelfp.functional", "hw_export",
    "hw_export.quantize", "hw_export.integer", "hw_export.nir", "hw_export.neurons", "hw_export.simulators",
    "hw_export.targets", "hw_export.updates",
)  # fmt: skip
"""Public packages, in the order of the reference."""

PROGRAMS = {"spikelfp": "spikelfp.cli", "hw-export": "hw_export.cli"}

PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""Files of the repository that are pages of the site as they stand."""

RESULTS = "benchmarks/results"
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


# Public names


def public_names(package: str) -> list[str]:
    """Return the names that a package exports: its ``__all__``, else all that it defines without underscore."""
    module = importlib.import_module(package)
    names = getattr(module, "__all__", None)
    return sorted(names if names is not None else _defined(module), key=str.casefold)


def _defined(module: ModuleType) -> list[str]:
    """Names without underscore that a module assigns or defines at its top level."""
    names: list[str] = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in dict.fromkeys(names) if not name.startswith("_")]


def modules_of(package: str) -> list[str]:
    """Return the modules of a package that exports no names itself, or only the package."""
    module = importlib.import_module(package)
    if hasattr(module, "__all__") or not hasattr(module, "__path__"):
        return [package]
    return [each.name for each in pkgutil.iter_modules(module.__path__, f"{package}.")]


def identifier(package: str, name: str) -> str | None:
    """Return the dotted path at which an exported name is defined, ``None`` for modules and what is not ours.

    Args:
        package: that exports the name.
        name: in it.
    """
    value = getattr(importlib.import_module(package), name)
    if inspect.ismodule(value):
        return None
    if inspect.isclass(value) or inspect.isroutine(value):
        own = value.__module__.partition(".")[0] in ("spikelfp", "hw_export")
        return f"{value.__module__}.{value.__qualname__}" if own else None
    # Registries, constants and aliases do not say where they are from: the module that assigns them.
    top = package.partition(".")[0]
    loaded = sorted(each for each in sys.modules if each == top or each.startswith(f"{top}."))
    for each in sorted(loaded, key=lambda each: not each.startswith(package)):
        module = sys.modules[each]
        if vars(module).get(name) is value and hasattr(module, "__file__") and name in _defined(module):
            return f"{each}.{name}"
    return None


def api_pages() -> dict[str, str]:
    """Return the Markdown of every page of the API reference, by its place in the site.

    An object is described on the page of the first package that exports it, ``spikelfp`` and ``hw_export`` after the
    packages inside them, and the other pages link there.
    """
    homes: dict[str, str] = {}
    for package in sorted(PACKAGES, key=lambda each: (each == "spikelfp.functional", "." not in each)):
        for module in modules_of(package):
            for name in public_names(module):
                found = identifier(module, name)
                if found is not None:
                    homes.setdefault(found, package)
    return {f"api/{package}.md": _api_page(package, homes) for package in PACKAGES}


def _api_page(package: str, homes: dict[str, str]) -> str:
    summary = Docstrings.markdown(inspect.getdoc(importlib.import_module(package)) or "")
    lines = [f"# {package} {{ #{package} }}", "", summary, ""]
    elsewhere = []
    for module in modules_of(package):
        if module != package:
            summary = Docstrings.markdown((inspect.getdoc(importlib.import_module(module)) or "").partition("\n\n")[0])
            lines += [f"## {module} {{ #{module} }}", "", summary, ""]
        for name in public_names(module):
            found, own = identifier(module, name), f"{module}.{name}"
            if found is None:
                elsewhere.append(f"[`{own}`]({own}.md)" if own in PACKAGES else f"`{own}`")
            elif homes[found] != package:
                elsewhere.append(f"[`{name}`][{found}]")
            else:
                if own != found:
                    lines += [f"[](){{ #{own} }}", ""]
                level = 2 if module == package else 3
                lines += [f"::: {found}", "    options:", f"      heading: {own}", f"      toc_label: {name}"]
                lines += [f"      heading_level: {level}", ""]
    if elsewhere:
        lines += [
            "## Also here",
            "",
            "Described on the page of the package they belong to: " + ", ".join(elsewhere) + ".",
        ]
    return "\n".join(lines) + "\n"


# Docstrings

BORDER = re.compile(r"=+( +=+)+")
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc|obj):`(~?)([^`]+)`")


class Docstrings(Extension):
    """Brings docstrings into Markdown: roles become code, ``::`` and ``>>>`` fenced blocks."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of an object that griffe has read."""
        if obj.docstring:
            obj.docstring.value = self.markdown(obj.docstring.value)

    @staticmethod
    def markdown(text: str) -> str:
        """Return a docstring as Markdown."""
        lines = ROLE.sub(lambda found: f"`{found[2].rpartition('.')[2] if found[1] else found[2]}`", text).split("\n")
        out: list[str] = []
        at = 0
        while at < len(lines):
            line, pad = lines[at], _indent(lines[at])
            at += 1
            end = at
            if line.lstrip().startswith(">>> "):
                while end < len(lines) and lines[end].strip():
                    end += 1
                out += _fenced("pycon", [line, *lines[at:end]], pad)
            elif BORDER.fullmatch(line.strip()):
                end = max(at, *(n + 1 for n in range(at, len(lines)) if lines[n].strip() == line.strip()))
                out += _table(lines[at - 1 : end], pad)
            elif line.rstrip().endswith("::"):
                while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > pad):
                    end += 1
                out += [line.rstrip()[:-1], *_fenced("text", lines[at:end], pad)]
            else:
                out.append(line)
            at = end
        return "\n".join(out)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _fenced(language: str, block: list[str], pad: int) -> list[str]:
    text = textwrap.dedent("\n".join(block)).strip("\n")
    return textwrap.indent(f"\n```{language}\n{text}\n```\n", " " * pad).split("\n") if text else [""]


def _table(lines: list[str], pad: int) -> list[str]:
    """A table drawn with ``=== ===`` as one of Markdown; rows whose first cell is empty go on with the row before."""
    spans = [found.span() for found in re.finditer(r"=+", lines[0])]
    spans[-1] = (spans[-1][0], max(map(len, lines)))
    rows: list[list[str]] = []
    borders = [n for n, line in enumerate(lines) if BORDER.fullmatch(line.strip())]
    if len(borders) == 2:
        rows.append([""] * len(spans))
    for line in lines:
        cells = [line[begin:end].strip().replace("|", r"\|") for begin, end in spans]
        if BORDER.fullmatch(line.strip()) or not line.strip():
            continue
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{before} {more}".strip() for before, more in zip(rows[-1], cells, strict=True)]
    rows.insert(1, ["---"] * len(spans))
    return ["", *(" " * pad + f"| {' | '.join(row)} |" for row in rows), ""]


# Command lines


def command_pages() -> dict[str, str]:
    """Return a page for each program, with the help of all its commands, by its place in the site."""
    pages = {}
    for program, module in PROGRAMS.items():
        lines = [f"# The command `{program}`", "", "Made from the program's own `--help`.", ""]
        for words, text in _helps(importlib.import_module(module).main, [program]):
            lines += [f"## {' '.join(words)} {{ #{'-'.join(words)} }}", "", "```text", text.strip(), "```", ""]
        pages[f"commands/{program}.md"] = "\n".join(lines)
    return pages


def _helps(main: Callable[[], None], words: list[str]) -> Iterator[tuple[list[str], str]]:
    """The words and the help of a command and of all below it."""
    argv, out = sys.argv, io.StringIO()
    sys.argv = [*words, "--help"]
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main()
    finally:
        sys.argv = argv
    yield words, out.getvalue()
    for name in re.findall(r"^  (\S+)", out.getvalue().partition("\nCommands:\n")[2], re.MULTILINE):
        yield from _helps(main, [*words, name])


# Files of the repository as pages


def site_path(path: str) -> str:
    """Return the place in the site of a file of the repository, both relative to their roots."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith(f"{RESULTS}/"):
        return path.removeprefix("benchmarks/")
    if path in (RESULTS, "examples"):
        return f"{path.removeprefix('benchmarks/')}/index.md"
    return f"source/{path}.md"


def file_pages() -> dict[str, str]:
    """Return the pages that show files of the repository: results, examples, the changelog, and sources linked to."""
    pages = {site: (ROOT / path).read_text() for path, site in PAGES.items()}
    results = sorted((ROOT / RESULTS).glob("*.md"))
    index = ["# Results", "", "Each page is a table as its benchmark has written it, with what it was measured on."]
    index += ["[performance.md](../performance.md) says how, `make bench` measures all of it again.", ""]
    for path in results:
        title, text = path.stem.replace("_", " ").capitalize(), path.read_text()
        pages[f"results/{path.name}"] = f"# {title}\n\n{text}"
        index.append(f"* [{title}]({path.name}): {text.partition(chr(10))[0].partition(';')[0].rstrip('.:')}")
    pages["results/index.md"] = "\n".join(index) + "\n"
    examples = ["# Examples", "", "Each is one file that runs by itself, on data that it brings along or makes.", ""]
    for path in sorted((ROOT / "examples").glob("*.py")):
        about = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0].replace("\n", " ")
        examples.append(f"* [{path.name}](../{site_path(f'examples/{path.name}')}): {Docstrings.markdown(about)}")
    pages["examples/index.md"] = "\n".join(examples) + "\n"
    wanted = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    for path in [*DOCS.glob("*.md"), *(ROOT / page for page in PAGES)]:
        wanted |= {target for _, target in linked_files(path)}
    for path in sorted(wanted):
        site = site_path(path)
        if site.startswith("source/") and (ROOT / path).is_file():
            pages[site] = f'# {path}\n\n```{_language(path)} linenums="1"\n{(ROOT / path).read_text()}```\n'
    return pages


def _language(path: str) -> str:
    return {".py": "python", ".toml": "toml", ".yaml": "yaml"}.get(Path(path).suffix, "text")


def linked_files(page: Path) -> list[tuple[str, str]]:
    """Return the relative links of a Markdown file: each target as written, and the file relative to the root."""
    found = []
    for match in LINK.finditer(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)):
        if not urlsplit(match[2]).scheme:
            path = (page.parent / unquote(match[2])).resolve()
            found.append((match[2], str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else match[2]))
    return found


# What mkdocs calls


def on_config(config: Any) -> Any:
    """Fill the lists of the navigation that follow from the tree."""
    api = {"spikelfp": [], "hw_export": []}
    for package in PACKAGES:
        api[package.partition(".")[0]].append({package: f"api/{package}.md"})
    results = [{path.stem.replace("_", " "): f"results/{path.name}"} for path in sorted((ROOT / RESULTS).glob("*.md"))]
    made = {
        "API reference": [{top: pages} for top, pages in api.items()],
        "Commands": [{program: f"commands/{program}.md"} for program in PROGRAMS],
        "Results": ["results/index.md", *results],
    }
    config.nav = [{**entry, **{key: made[key] for key in entry if key in made}} for entry in config.nav]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made, and the pictures of the results."""
    for uri, text in {**api_pages(), **command_pages(), **file_pages()}.items():
        files.append(File.generated(config, uri, content=text))
    for path in (ROOT / RESULTS).glob("*.png"):
        files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links to files of the repository lead to their pages in the site."""
    uri = page.file.src_uri
    origins = {site: path for path, site in PAGES.items()}
    if page.file.generated_by and uri not in origins:
        return markdown
    origin = (ROOT / origins[uri] if uri in origins else DOCS / uri).parent

    def moved(match: re.Match[str]) -> str:
        target = (origin / unquote(match[2])).resolve()
        if urlsplit(match[2]).scheme or not target.exists() or not target.is_relative_to(ROOT):
            return match[0]
        site = site_path(str(target.relative_to(ROOT)))
        line = re.fullmatch(r"#L(\d+)", match[3] or "")
        mark = f"#__codelineno-0-{line[1]}" if line else match[3] or ""
        return f"{match[1]}{'../' * uri.count('/')}{site}{mark}{match[4]}"

    def cells(line: str) -> str:  # in code of a table a bar needs no backslash here, as it does elsewhere
        return CODE.sub(lambda code: code[0].replace(r"\|", "|"), line) if line.startswith("|") else line

    markdown = "\n".join(map(cells, LINK.sub(moved, markdown).split("\n")))
    if uri in ("glossary.md", "method.md"):
        homes = {module: f"(api/{package}.md#{module})" for package in PACKAGES for module in modules_of(package)}
        homes |= {f"{module}.{name}": f"[{module}.{name}]" for module in homes for name in public_names(module)}
        homes |= {package: f"(api/{package}.md)" for package in PACKAGES}
        markdown = CODE.sub(lambda code: f"[{code[0]}]{homes[code[1]]}" if code[1] in homes else code[0], markdown)
    return markdown


def on_post_build(config: Any) -> None:
    """Refuse a site with a dead link or anchor, or with a page that asks another host for something."""
    site = Path(config.site_dir)
    pages = {path: _Page(path) for path in site.rglob("*.html")}
    wrong = [f"{path.relative_to(site)}: {complaint}" for path, page in pages.items() for complaint in page.dead(pages)]
    if wrong:
        raise PluginError("\n".join(["the site has links that lead nowhere:", *sorted(wrong)]))


class _Page(HTMLParser):
    """Links and anchors of a page of the site."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.anchors, self.links, self.loads = path, {"", "__top"}, [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        for name in ("src", "href") if tag == "link" else ("src",):
            if name in values and values.get("rel") not in ("canonical", "prev", "next"):
                self.loads.append(values[name])

    def dead(self, pages: dict[Path, _Page]) -> Iterator[str]:
        """Complaints about this page."""
        for url in self.loads:
            if urlsplit(url).netloc:
                yield f"loads {url} from another host"
        for url in [*self.links, *self.loads]:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or self.path.name == "404.html":
                continue
            target = (self.path.parent / unquote(parts.path)).resolve() if parts.path else self.path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{url} does not exist"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{url}: no such place on the page"


# Files and lines of the equations


ROW = re.compile(r"^(\|.*\| `([\w.]+)` \|)[^|]*\|$", re.MULTILINE)
BEGIN, END = "<!-- equations -->", "<!-- end of equations -->"


def place(name: str) -> tuple[str, int]:
    """Return the file, relative to the root, and the line in which an object stands.

    Args:
        name: dotted path of the object, through any package that exports it.
    """
    words = name.split(".")
    for length in range(len(words), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(words[:length]))
        except ModuleNotFoundError:
            continue
        for word in words[length:]:
            value = getattr(value, word)
        break
    value = inspect.unwrap(value)
    lines, first = inspect.getsourcelines(value)
    decorators = next(n for n, line in enumerate(lines) if re.match(r"\s*(class|def) ", line))
    return str(Path(inspect.getsourcefile(value) or "").resolve().relative_to(ROOT)), max(first, 1) + decorators


def with_places(text: str) -> str:
    """Return the text of the page with the file and line of each object in its table of equations."""

    def row(match: re.Match[str]) -> str:
        file, line = place(match[2])
        return f"{match[1]} [{file}:{line}](../{file}#L{line}) |"

    before, begin, rest = text.partition(BEGIN)
    table, end, after = rest.partition(END)
    return before + begin + ROW.sub(row, table) + end + after


if __name__ == "__main__":
    old = METHOD.read_text()
    new = with_places(old)
    if "--check" not in sys.argv[1:]:
        METHOD.write_text(new)
    elif new != old:
        sys.exit("the table of equations in docs/method.md is stale: make format writes it anew")
