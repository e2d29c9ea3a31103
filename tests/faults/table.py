"""The figures of the suite as a table of Markdown, between two marks in ``docs/reliability.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: make faults -->", "<!-- end of figures -->"


@dataclass
class Row:
    """A line of the table: what was done, how often, what came of it, and how often something was lost."""

    what: str
    tries: int
    outcome: str = ""
    lost: int = 0


@dataclass
class Part:
    """A part of the suite: its rows, and every problem in words."""

    title: str
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tries(self) -> int:
        """All tries together."""
        return sum(row.tries for row in self.rows)

    @property
    def lost(self) -> int:
        """All losses together."""
        return sum(row.lost for row in self.rows)


def markdown(parts: Sequence[Part], about: str) -> str:
    """The table of all parts."""
    lines = [about, ""]
    for part in parts:
        lines += [f"**{part.title}**: {part.tries:,} tries, {part.lost} lost ({part.seconds / 60:.0f} min)", ""]
        lines += ["| what | tries | outcome | lost |", "|---|---:|---|---:|"]
        lines += [f"| {row.what} | {row.tries:,} | {row.outcome} | {row.lost} |" for row in part.rows]
        lines.append("")
    return "\n".join(lines)


def write_page(text: str, page: Path = PAGE) -> None:
    """Put the table between the marks of the page."""
    content = page.read_text(encoding="utf-8")
    head, _, rest = content.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n{text.strip()}\n{END}{tail}", encoding="utf-8")


def counted(names: Iterable[str]) -> str:
    """How often each name occurs, the most frequent first."""
    from collections import Counter

    return ", ".join(f"{count:,} {name}" for name, count in Counter(names).most_common())
