"""A report as a list of blocks, which HTML and Markdown are two ways of writing down."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Running text; ``lead`` is for what must not be overlooked."""

    text: str
    lead: bool = False


@dataclasses.dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text. ``name`` is that of its CSV and LaTeX files; a table without one is in the report alone."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class Figure:
    """A drawing as SVG. ``name`` is that of its file beside the Markdown."""

    caption: str
    svg: str
    name: str


@dataclasses.dataclass(frozen=True)
class Video:
    """A film as MP4. ``name`` is that of its file beside the Markdown."""

    caption: str
    content: bytes
    name: str


@dataclasses.dataclass(frozen=True)
class Code:
    """Lines to copy, of a shell."""

    text: str


Block = Heading | Paragraph | Items | Table | Figure | Video | Code


def without_folders(value: Any) -> Any:
    """A text, or texts in lists and dictionaries, with names instead of absolute paths: those are of one machine."""
    if isinstance(value, str):
        return _FOLDERS.sub("", value)
    if isinstance(value, dict):
        return {key: without_folders(each) for key, each in value.items()}  # pyright: ignore
    if isinstance(value, (list, tuple)):
        return [without_folders(each) for each in value]  # pyright: ignore
    return value


# The folders of /a/b/name, but not what follows a word or `https:/`.
_FOLDERS = re.compile(r"""(?<![\w.:/~])/(?:[^\s/'",=:\[\]{}|]+/)+""")
