"""What a file may promise, and how its own words are repeated: nothing that it says is taken on trust.

A header of some bytes can promise terabytes, compressed data can expand a thousandfold, and texts can hold anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from ..robots import InputError

# Data are refused that are larger than this, and larger than so many times the file. Floats that were recorded compress
# to no less than a tenth; columns of zeros to a thousandth, but they are no more than a part of a file.
_FREE, _TIMES = 32 << 20, 32
_LISTED = 20  # names in a list of them
_DEEPEST = 64  # levels of JSON


def in_memory(shape: Iterable[int], item_bytes: int) -> int:
    """Bytes of an array; at least one for each row, as what is worked out for each row is no smaller."""
    return math.prod(max(1, int(size)) for size in shape) * max(1, item_bytes)


def check_promise(path: Path, what: str, promised: int, there: int) -> None:
    """See whether ``promised`` bytes of data can come from the ``there`` bytes of a file.

    Errors: :class:`InputError` when they cannot, by far.
    """
    if promised > _FREE + _TIMES * there:
        raise InputError(
            f"{path}: {what} would be {promised} bytes, but the file has {there}, and no recording compresses so "
            "well, so it is damaged or empty; copy or record it again, or store it uncompressed"
        )


def in_words(said: object, longest: int = 300) -> str:
    """What an exception or a file says, on one line, without signs that cannot be shown, and not too long."""
    text = " ".join(str(said).split()) or type(said).__name__
    text = text if len(text) <= longest else f"{text[:longest]}..."
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def listed(names: Sequence[str]) -> str:
    """Names as a file has them, in a list; of many, the first."""
    if not names:
        return ""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return in_words(", ".join(names[:_LISTED]), 800) + more


def parse_json(text: object) -> Any:
    """What a text of JSON says. Errors: ``ValueError`` for anything else, and for more levels than anybody needs."""
    try:
        found: Any = json.loads(str(text))
    except RecursionError as error:
        raise ValueError("too many levels of JSON") from error
    level: list[Any] = [found]
    for _ in range(_DEEPEST):
        level = [part for item in level for part in _within(item)]
        if not level:
            return found
    raise ValueError("too many levels of JSON")


def _within(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


def read_json(path: Path) -> Any:
    """What a file of JSON says.

    Errors: ``OSError`` when it cannot be read, ``ValueError`` as :func:`parse_json`.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise OSError(f"{path} is no file")
    return parse_json(path.read_text("utf-8"))
