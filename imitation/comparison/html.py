"""A report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from .document import Block, Code, Figure, Heading, Items, Paragraph, Table, Video

_STYLE = """
:root { --ink: #1b1f24; --quiet: #5b6470; --line: #d5dae1; --tint: #f4f6f9; --mark: #1f6fb2; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
.lead { background: var(--tint); border-left: 4px solid var(--mark); padding: .7rem 1rem; max-width: none; }
ul { padding-left: 1.2rem; } li { margin: .25rem 0; }
.wide { overflow-x: auto; margin: 0 0 1.2rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
.caption { color: var(--quiet); font-size: .875rem; margin: 1.2rem 0 .3rem; }
th, td { padding: .3rem .7rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
td.long { white-space: normal; min-width: 11rem; }
th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
figure { margin: 0; break-inside: avoid; max-width: 32rem; } figure svg { width: 100%; height: auto; display: block; }
figure video { width: 100%; max-width: 20rem; display: block; background: #000; }
figcaption { color: var(--quiet); font-size: .875rem; }
pre { background: var(--tint); padding: .7rem 1rem; overflow-x: auto; font-size: .8rem; line-height: 1.45; }
@media print {
  body { font-size: 10pt; max-width: none; padding: 0; }
  h2, h3, .caption { break-after: avoid; } tr, .lead, pre { break-inside: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; } .wide { overflow: visible; }
  th { white-space: normal; } th:first-child, td:first-child { position: static; }
  table { font-size: 8pt; } td.long { min-width: 0; } video { display: none; }
}
"""
_LONG = 40  # characters, from which a cell may be broken into lines


def render(title: str, blocks: Sequence[Block]) -> str:
    """The page."""
    parts, index = list[str](), 0
    while index < len(blocks):
        pictures = list[str]()  # those that follow each other stand side by side
        while index < len(blocks) and isinstance(block := blocks[index], (Figure, Video)):
            pictures.append(_picture(block))
            index += 1
        if pictures:
            parts.append('<div class="figures">' + "\n".join(pictures) + "</div>")
            continue
        parts.append(_text(blocks[index]))
        index += 1
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _picture(block: Figure | Video) -> str:
    if isinstance(block, Figure):
        inner = block.svg
    else:
        content = base64.b64encode(block.content).decode()
        inner = f'<video controls muted playsinline preload="metadata" src="data:video/mp4;base64,{content}"></video>'
    return f"<figure>{inner}<figcaption>{escape(block.caption)}</figcaption></figure>"


def _text(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p{' class=lead' if block.lead else ''}>{escape(block.text)}</p>"
    if isinstance(block, Items):
        return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, Code):
        return f"<pre>{escape(block.text)}</pre>"
    if isinstance(block, Table):
        return _table(block)
    return _picture(block)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(f"<td{' class=long' if len(cell) > _LONG else ''}>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in table.rows
    )
    caption = f"<p class=caption>{escape(table.caption)}</p>" if table.caption else ""
    return f'{caption}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
