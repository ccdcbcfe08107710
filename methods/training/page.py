"""A page of HTML that needs no other file: its pictures lie inside it."""
import base64
import html
import os
import pathlib
import re
import urllib.parse

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 46rem; padding: 1rem; color: #222; background: #fff }
img { max-width: 100%; height: auto } h2 { margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { padding: .15rem .7rem .15rem 0; text-align: left; vertical-align: top }
td:last-child { white-space: nowrap }
code { background: #f4f4f4; overflow-wrap: anywhere } .aside { color: #666; font-size: .9em }
"""


class Markup(str):
    """Text that is HTML already."""


def text(words: object) -> str:
    """Words as HTML shows them."""
    return words if isinstance(words, Markup) else html.escape(str(words))


def heading(words: str) -> str:
    """The heading of a section."""
    return f'<h2 id="{_anchor(words)}">{text(words)}</h2>'


def link(words: str, file: str | os.PathLike | None = None) -> Markup:
    """Words that lead to a file, or else to the section with this heading."""
    address = f"#{_anchor(words)}" if file is None else urllib.parse.quote(pathlib.Path(file).as_posix())
    return Markup(f'<a href="{text(address)}">{text(words)}</a>')


def _anchor(words):
    return "-".join(re.findall(r"\w+", words.lower()))


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of plain words."""
    return f'<p{f" class={kind}" if kind else ""}>{text(words)}</p>'


def picture(path: pathlib.Path, words: str = "") -> str:
    """A PNG, inside the page."""
    return f'<p><img alt="{text(words)}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"></p>'


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of cells, the first of them the heads of the columns."""
    lines = ["".join(f"<{tag}>{text(cell)}</{tag}>" for cell in row) for tag, row in zip(["th"] + ["td"] * len(rows), rows)]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def whole(title: str, *parts: str, style: str = STYLE) -> str:
    """The page."""
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, '
            f'initial-scale=1"><title>{text(title)}</title><link rel="icon" href="data:,"><style>{style}</style></head><body>'
            f"<h1>{text(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n")
