"""A report as Markdown, and its tables as CSV and as LaTeX for a paper."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from .document import Block, Code, Figure, Heading, Items, Paragraph, Table, Video


def markdown(blocks: Sequence[Block]) -> str:
    """The report as Markdown; figures and videos are files of their name beside it."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return f"> {block.text}" if block.lead else block.text
    if isinstance(block, Items):
        return "\n".join(f"* {item}" for item in block.items)
    if isinstance(block, Code):
        return f"```bash\n{block.text}\n```"
    if isinstance(block, Figure):
        return f"![{block.caption}](figures/{block.name}.svg)\n\n{block.caption}"
    if isinstance(block, Video):
        return f"[{block.caption}](videos/{block.name}.mp4)"
    rows = [block.columns, ["---"] * len(block.columns), *block.rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*([block.caption, ""] if block.caption else []), *lines])


def comma_separated(table: Table) -> str:
    """The table as CSV."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([table.columns, *table.rows])
    return file.getvalue()


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "∞": r"$\infty$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def latex(table: Table) -> str:
    """The table as a `tabular` with rules of the booktabs package."""

    def cells(row: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(letter, letter) for letter in cell) for cell in row) + r" \\"

    lines = [f"% {table.caption}", rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}", r"\toprule"]
    lines += [cells(table.columns), r"\midrule", *map(cells, table.rows), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"
