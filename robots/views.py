"""Which parts of an observation someone may see: a policy without velocities, a reward on positions alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from .errors import InputError, nearest
from .tasks import Task

_NAMES = {"qpos": "positions", "qvel": "velocities"}  # Gymnasium's names and ours


def observation_parts(task: Task) -> dict[str, slice]:
    """The named parts of a task's observation, in order; empty where Gymnasium does not say what they are."""
    environment = task.make()
    size = int(np.prod(cast(tuple[int, ...], environment.observation_space.shape)))
    structure = cast(Mapping[str, int], getattr(environment, "observation_structure", None) or {})
    environment.close()
    parts: dict[str, slice] = {}
    begin = 0
    for name, length in structure.items():
        if name != "skipped_qpos" and length:
            parts[_NAMES.get(name, name)] = slice(begin, begin + length)
            begin += length
    return parts if begin == size else {}


def view_mask(task: Task, view: Sequence[str], option: str) -> np.ndarray | None:
    """1 where ``view`` shows an observation and 0 where it hides it (O,) float32; none when it is empty: all is seen.

    Each item is a part's name (``positions``) or a range of columns (``0:5``, ``7``). ``option`` is named in errors.
    Errors: :class:`InputError` for a part that the task does not have, or columns that it has not.
    """
    if not view:
        return None
    parts, size = observation_parts(task), task.spaces.observation_size
    mask = np.zeros(size, np.float32)
    for item in view:
        columns = parts.get(item) or _columns(item)
        if columns is None:
            known: Any = [*parts, f"ranges of the {size} columns like 0:{size // 2}"]
            raise InputError(f"{option}: {task.name} has no part {item!r}: {nearest(item, known)}")
        if not 0 <= columns.start < columns.stop <= size:
            raise InputError(f"{option}: {item!r} is not within the {size} columns of {task.name}'s observation")
        mask[columns] = 1
    return mask


def _columns(item: str) -> slice | None:
    match = re.fullmatch(r"(\d+)(?::(\d+))?", item)
    if match is None:
        return None
    first = int(match[1])
    return slice(first, first + 1 if match[2] is None else int(match[2]))
