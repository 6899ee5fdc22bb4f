"""The one exception for everything a user can put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Something given to the suite is wrong, and the message says what and the way out in one sentence.

    Commands print the sentence and exit with ``code``; a traceback is for our own mistakes.
    """

    code: int = 2


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known ones, or all of them when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(names)}"
