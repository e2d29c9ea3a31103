"""The page: one HTML document with its style and its pictures inside. Every text is escaped here (:func:`safe`)."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from string import Template

from spikelfp.report.theme import SHARPNESS
from spikelfp.terminal import plain

STYLE = """
:root { color-scheme: light dark; --page: #f4f6f8; --card: #ffffff; --ink: #1c2127; --muted: #5b6570;
  --line: #e2e6ea; --main: #0072b2; --accent: #b84e00; --good: #00795a; --soft: #e8f1f7; }
@media (prefers-color-scheme: dark) { :root { --page: #111519; --card: #1a1f26; --ink: #e8ebee; --muted: #9aa5b1;
  --line: #303741; --main: #56b4e9; --accent: #f0943c; --good: #3fc79a; --soft: #1d2c37; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 20px 64px; }
header { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 24px 48px; align-items: end; }
.over { margin: 0 0 8px; color: var(--muted); font-size: 14px; overflow-wrap: anywhere; }
.chip { display: inline-block; margin-left: 8px; padding: 1px 10px; border-radius: 99px; font-size: 12px;
  background: var(--soft); color: var(--main); }
.chip.warn, .warn { color: var(--accent); }
h1 { margin: 0; font-size: clamp(25px, 3.6vw, 36px); line-height: 1.18; letter-spacing: -0.015em;
  text-wrap: balance; }
.score { text-align: right; }
.score b { display: block; font-size: clamp(48px, 7.5vw, 76px); line-height: 1; font-weight: 650;
  letter-spacing: -0.03em; color: var(--main); white-space: nowrap; }
.score span { color: var(--muted); font-size: 14px; }
.terms { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 4px 16px; margin: 24px 0 0; font-size: 15px; }
.terms dt { color: var(--muted); }
.terms dd { margin: 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 1px; margin: 28px 0 0;
  border: 1px solid var(--line); border-radius: 14px; overflow: hidden; background: var(--card); }
.facts div { box-shadow: 0 0 0 1px var(--line); padding: 14px 16px; display: flex; flex-direction: column;
  justify-content: space-between; }
.facts dt { color: var(--muted); font-size: 13px; line-height: 1.35; }
.facts dd { margin: 2px 0 0; font-size: 21px; font-weight: 600; letter-spacing: -0.01em; }
section { margin-top: 44px; }
h2 { margin: 0 0 4px; font-size: 21px; letter-spacing: -0.01em; }
section > p { margin: 0 0 14px; color: var(--muted); max-width: 76ch; }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 290px), 1fr)); }
.grid.pair { grid-template-columns: repeat(auto-fit, minmax(min(100%, 350px), 1fr)); }
figure, .card { margin: 0; padding: 18px 20px 14px; background: var(--card); border: 1px solid var(--line);
  border-radius: 14px; min-width: 0; break-inside: avoid; }
figcaption { margin-bottom: 10px; }
figcaption b { font-weight: 600; }
figcaption span { display: block; color: var(--muted); font-size: 13.5px; line-height: 1.4; }
figure img { display: block; width: 100%; height: auto; max-width: 560px; margin: 0 auto; }
figure.moving img { width: auto; max-width: 100%; border-radius: 6px; image-rendering: pixelated; }
figure.wide + figure.wide { margin-top: 16px; }
figure.wide img { max-width: none; }
.scroll { overflow-x: auto; }
.wide .scroll img { min-width: 680px; }
.note { margin: 24px 0 0; padding: 12px 16px; border-left: 3px solid var(--accent); background: var(--card);
  border-radius: 0 10px 10px 0; font-size: 15px; }
table { width: 100%; border-collapse: collapse; font-size: 15px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--muted); font-size: 13px; }
th, td { padding: 8px 14px 8px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
td.good { color: var(--good); font-weight: 600; }
td.warn { font-weight: 600; }
td.off { color: var(--muted); }
td.why { color: var(--muted); white-space: normal; min-width: 16ch; font-size: 13.5px; }
footer { margin-top: 52px; padding-top: 20px; border-top: 1px solid var(--line); color: var(--muted); font-size: 14px; }
footer p { margin: 0 0 12px; }
pre { margin: 0 0 14px; padding: 12px 14px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; overflow-x: auto; color: var(--ink);
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere; }
pre.wrap span { display: inline-block; max-width: 100%; }
summary { cursor: pointer; margin-bottom: 10px; }
@media (max-width: 640px) { main { padding: 24px 14px 48px; } header { grid-template-columns: 1fr; }
  .score { text-align: left; } figure, .card { padding: 14px 12px 10px; }
  .terms { grid-template-columns: 1fr; gap: 0; } .terms dd { margin-bottom: 8px; } }
@media print { body { background: none; } main { max-width: none; padding: 0; } details { display: none; } }
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


@dataclass(frozen=True)
class Picture:
    """A figure with its words. ``light`` and ``dark`` are PNGs, ``text`` describes the figure to who cannot see it."""

    title: str
    caption: str
    text: str
    light: bytes
    dark: bytes
    wide: bool = False


@dataclass(frozen=True)
class Moving:
    """An animated picture with its words: a GIF of that size, and a PNG for readers who prefer that nothing moves."""

    title: str
    caption: str
    text: str
    gif: bytes
    still: bytes
    width: int
    height: int
    wide: bool = False


def safe(text: object) -> str:
    """Make HTML of a text, for elements and for attributes: nothing in it is markup, and all of it can be seen."""
    return escape(plain(text), quote=True)


def page(title: str, parts: Iterable[str]) -> str:
    """The document."""
    return PAGE.substitute(title=safe(title), style=STYLE, body="\n".join(part for part in parts if part))


def header(over: str, chip: str, title: str, score: str, score_text: str, *, warn: bool = False) -> str:
    """The headline with a state and one big number."""
    state = f'<span class="chip{" warn" if warn else ""}">{safe(chip)}</span>' if chip else ""
    return (
        f'<header><div><p class="over">{safe(over)}{state}</p>'
        f"<h1>{safe(title).replace('-', '&#8209;')}</h1></div>"
        f'<div class="score"><b>{safe(score)}</b><span>{safe(score_text)}</span></div></header>'
    )


def terms(pairs: Sequence[tuple[str, str]]) -> str:
    """Terms and their explanations."""
    rows = "".join(f"<dt>{safe(term)}</dt><dd>{safe(text)}</dd>" for term, text in pairs)
    return f'<dl class="terms">{rows}</dl>' if rows else ""


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Small facts in a row of tiles."""
    tiles = "".join(f"<div><dt>{safe(term)}</dt><dd>{safe(value)}</dd></div>" for term, value in pairs)
    return f'<dl class="facts">{tiles}</dl>' if tiles else ""


def notes(texts: Iterable[str]) -> str:
    """What is missing, and why."""
    return "".join(f'<p class="note">{safe(text)}</p>' for text in texts)


def section(title: str, text: str, pictures: Sequence[Picture | Moving], *, pair: bool = False) -> str:
    """A heading over a grid of figures: of two columns for a ``pair``, else of as many as fit."""
    if not pictures:
        return ""
    intro = f"<p>{safe(text)}</p>" if text else ""
    body = "".join(_figure(picture) for picture in pictures)
    kind = "grid pair" if pair else "grid"
    grid = body if pictures[0].wide else f'<div class="{kind}">{body}</div>'
    return f"<section><h2>{safe(title)}</h2>{intro}{grid}</section>"


def table(title: str, text: str, head: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    """A small table; a cell is its text and its class (``good``, ``warn``, ``off``, ``why`` or nothing)."""
    top = "".join(f"<th>{safe(name)}</th>" for name in head)
    cells = (
        "".join(f'<td class="{kind}">{safe(text)}</td>' if kind else f"<td>{safe(text)}</td>" for text, kind in row)
        for row in rows
    )
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return (
        f"<section><h2>{safe(title)}</h2><p>{safe(text)}</p>"
        f'<div class="card scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div></section>'
    )


def footer(command: Sequence[str], versions: str, config: str) -> str:
    """How to train the network again; the parts of the command are not broken over lines where they fit."""
    lines = "\n".join(map(safe, config.splitlines()))
    line = " ".join(f"<span>{safe(part)}</span>" for part in command)
    return (
        f'<footer><p>Train this network again</p><pre class="wrap">{line}</pre>'
        f"<details><summary>All options</summary><pre>{lines}</pre></details>"
        + (f"<p>{safe(versions)}</p>" if versions else "")
        + "</footer>"
    )


def _figure(picture: Picture | Moving) -> str:
    caption = f"<span>{safe(picture.caption)}</span>" if picture.caption else ""
    kind = ' class="wide"' if picture.wide else ""
    if isinstance(picture, Moving):
        kind = ' class="moving"'
        source = f'<source media="(prefers-reduced-motion: reduce)" srcset="{_data(picture.still)}">'
        shown, (width, height) = _data(picture.gif, "gif"), (picture.width, picture.height)
    else:
        source = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(picture.dark)}">'
        shown = _data(picture.light)
        width, height = (round(size / SHARPNESS) for size in struct.unpack(">II", picture.light[16:24]))
    return (
        f"<figure{kind}>"
        f"<figcaption><b>{safe(picture.title)}</b>{caption}</figcaption>"
        f'<div class="scroll"><picture>{source}'
        f'<img src="{shown}" width="{width}" height="{height}" alt="{safe(picture.text)}">'
        "</picture></div></figure>"
    )


def _data(image: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(image).decode()
